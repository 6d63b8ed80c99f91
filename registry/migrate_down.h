// The way back: a copy of a registry in layout version 2, for release 0.1.0, which can read nothing
// newer.
//
//   std::unique_ptr<DownCopy> copy = DownCopy::Publish(path, problem);
//   start a mapper of 0.1.0, which opens what is at the path; stop writing; copy->Refresh();
//   the other mapper begins to write, or: registry.RollBackSuccessorsMigration();
//
// Thread safety: one thread at a time.
#ifndef EVERMAP_REGISTRY_MIGRATE_DOWN_H_
#define EVERMAP_REGISTRY_MIGRATE_DOWN_H_

#include <memory>
#include <string>

#include "registry/problem.h"

namespace evermap {

class Segment;  // segment.h
class V2File;   // migrate_down.cc

class DownCopy {
 public:
  // Replaces the file at `path`, which has the newest layout, by one in layout version 2 with the same
  // registrations in the same slots, with the same ids, creations and times, and the same capacity,
  // key, counters and status. The replaced one, which may be written to all the while, is
  // PATH.previous, from which RollBackMigration() (migration.h) puts it back. A process that dies in
  // the middle leaves what one leaves that dies in Migrate().
  // Takes the opening lock for the time. Null, with a problem, when it cannot be done (kBusy: when
  // that lock cannot be had); the path is as it was then.
  static std::unique_ptr<DownCopy> Publish(const std::string& path, Problem& problem);
  ~DownCopy();
  DownCopy(const DownCopy&) = delete;
  DownCopy& operator=(const DownCopy&) = delete;

  // Brings into the copy what was changed since.
  // REQUIRES: nobody writes to the one or the other.
  Problem Refresh();

 private:
  DownCopy(std::string path, std::unique_ptr<Segment> from, std::unique_ptr<V2File> to);

  const std::string path_;
  const std::unique_ptr<Segment> from_;
  const std::unique_ptr<V2File> to_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_MIGRATE_DOWN_H_
