// The lock-free registry of nodes in a shared-memory segment that survives its writers.
//
//   absl::StatusOr<std::unique_ptr<Registry>> registry =
//       Registry::Open({.path = "/run/evermap/registry.4369"});
//   RegisterResult result = (*registry)->Register({.name = "rabbit", .port = 25672});
//   Registration found;
//   if ((*registry)->Lookup("rabbit", found)) use(found.port);
//   (*registry)->Unregister(result.slot, result.id);
//
// Thread safety: all members may be called from any number of threads, and of processes that
// opened the same segment. Open a Registry after fork(), not before: a child that inherits one
// keeps its parent's claims looking alive (INV-3). Invariants INV-1 to INV-7 (the numbers are used
// by the tests): see the list in layout.h. Processes that only read use reader.h (C++) or evermap.h
// (C), which need no write access.
#ifndef EVERMAP_REGISTRY_REGISTRY_H_
#define EVERMAP_REGISTRY_REGISTRY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "registry/location.h"  // IWYU pragma: export
#include "registry/owner.h"
#include "registry/registration.h"
#include "registry/status.h"

namespace evermap {

// How long Amend(), Adopt() and AwaitClaimant() wait for the claimant of a record (layout.h), the
// writer that is changing it. A claimant makes no system call meanwhile, so this is long unless it is
// stopped or has to wait for a core.
inline constexpr int kClaimPatienceMs = 20;

struct RegisterResult {
  enum class Outcome : uint8_t {
    kRegistered,
    // The name is live or orphaned, and slot and id name the registration that has it; or, with id
    // 0, another writer has claimed its record, to register the name or to end a registration: see
    // AwaitClaimant().
    kTaken,
    kFull,     // no record free and none to recycle, or no memory for one
    kInvalid,  // empty name, NUL in it, or too long name or extra
  };
  Outcome outcome = Outcome::kInvalid;
  uint32_t slot = 0;
  uint64_t id = 0;
  uint32_t creation = 0;
};

// Which registrations a walk over all meets.
enum class Which : uint8_t {
  kRegistered,  // live and orphaned
  kAll,         // remembered as well
};

class RegistryView;       // reader.h
class Writer;             // writer.h
class WriterPlace;        // writer_place.h
struct WorkerStatistics;  // counters.h

// A mapped segment, opened for writing.
class Registry {
 public:
  struct Options {
    std::string path;
    // Names the registry can hold; used when the segment is created. An existing segment keeps its
    // own. 1 to kRegistryCapacityMax.
    uint32_t capacity = kRegistryCapacityDefault;
  };

  // Opens the segment at options.path and recovers what dead writers left half done (INV-3), or
  // creates it, atomically, with mode 0644 in a directory that must exist. Beside it lies
  // `path`.lock, by which writers know each other to be alive; remove it only with the segment.
  // Never changes a file that it does not accept (INV-6): kFailedPrecondition for a wrong magic,
  // size, owner or mode and a newer layout (INV-7). kUnavailable when another process has been
  // opening it for seconds or all writers' places are taken; kResourceExhausted when there is no
  // memory. Every message is one line that names the path and the way out.
  // A segment of an earlier boot is accepted with its live registrations turned into remembered
  // ones.
  // A newer layout is accepted in one case: a migration to it was not finished, and nobody writes to
  // it. Then the migration is rolled back.
  // A segment of an older layout is migrated, with nothing lost (INV-7); the old file stays as
  // `path`.previous until FinishMigration(). REQUIRES: writers that have the old one open, if any,
  // change nothing until they call RollBackSuccessorsMigration() or end.
  static absl::StatusOr<std::unique_ptr<Registry>> Open(const Options& options);
  struct As {
    RegistryOwner owner;  // whose the registry becomes, if that is known
    // It was handed over as a descriptor, none of which survives a reboot.
    bool is_of_this_boot = false;
    bool forgets_nodes = false;  // live registrations become remembered ones, as after a reboot
  };
  // The same, for a claim (claim.h), with a file that is mapped for writing in the newest layout.
  // REQUIRES: `place` holds the opening lock, and is not taken yet.
  static absl::StatusOr<std::unique_ptr<Registry>> OpenMapped(std::string path,
                                                              std::unique_ptr<Segment> segment,
                                                              std::unique_ptr<WriterPlace> place,
                                                              const As& as);
  // Whether Open() would migrate what is at `path`; false when nothing is. Changes nothing. Errors
  // are those of Open() for a file that it does not accept.
  static absl::StatusOr<bool> NeedsMigration(const std::string& path);
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Registers a node. Of several writers that register one name exactly one gets kRegistered
  // (INV-2). No lock is taken, and no other writer is waited for.
  RegisterResult Register(const NodeRecord& node);

  // Waits until the claimant of the record in `slot`, which leaves it open whether the record's name
  // is taken, has gone on. False when it has not after kClaimPatienceMs.
  bool AwaitClaimant(uint32_t slot);

  // Ends registration `id`; false when it had ended already. Never touches a later registration of
  // the name (INV-4).
  bool Unregister(uint32_t slot, uint64_t id);

  // Marks live registration `id` as orphaned; false when it is not live.
  bool Orphan(uint32_t slot, uint64_t id);
  // Gives orphaned registration `id` a new connection: it is live again with the same id, creation
  // and since. False when it is not orphaned any more; of several adopters one wins. A writer that
  // dies in the middle leaves it orphaned.
  bool Adopt(uint32_t slot, uint64_t id, uint64_t connection_cookie);
  // Stores what was found out about live or orphaned registration `id`; false when it has ended.
  // All else of it stays, and lookups find it all the while; one that happens meanwhile may see a
  // part of the new values. A writer that dies in the middle leaves it registered as it was, with
  // any part of the new values. False also when another writer has been in the middle of the same
  // for kClaimPatienceMs.
  bool Amend(uint32_t slot, uint64_t id, const Amendment& what);

  // False when no live or orphaned registration has that name. No lock, no system call, no write
  // (INV-1).
  bool Lookup(std::string_view name, Registration& found) const;
  // Copies what is in `slot` now; false when there is nothing live, orphaned or remembered.
  bool ReadSlot(uint32_t slot, Registration& found) const;
  // Calls `visit` for each registration, in slot order. Each is consistent by itself; together they are
  // a snapshot only if view().generation() was the same before and after. Costs what there is of these, and a
  // load for each 32 slots that were ever used.
  void ForEach(Which which, absl::FunctionRef<void(const Registration&)> visit) const;
  // The same from slot `first` on, until `count` slots were looked at; 32 of which none is live or
  // orphaned count as one. Returns the slot to go on from; nothing when there is none.
  std::optional<uint32_t> ForEachOf(Which which, uint32_t first, uint32_t count,
                                    absl::FunctionRef<void(const Registration&)> visit) const;

  // Live and orphaned registrations now. Counts them anew after a change, which costs a load for each
  // of them and for each 32 slots that were ever used, so that no death of a writer can make it wrong;
  // between changes it costs one load.
  uint32_t live_count() const;
  const std::string& path() const;
  // What readers see of the file that this object writes to (reader.h), also that another file has
  // taken its place. Valid as long as this object.
  const RegistryView& view() const;

  // What tools are told about the mapper and its upgrades (status.h); view() tells it back. Each
  // replaces the one before as a whole.
  void SetMapperStatus(const MapperStatus& status);
  void SetUpgradeStatus(const UpgradeStatus& status);
  // Tells all who watch the file that this object writes to (watch.h), whatever became of its path, that
  // something in it has changed. Returns an errno; 0: they are told. If not, the file says from then on
  // that readers have to look by themselves.
  int TellReaders();

  // For the predecessor in an upgrade: rolls back a migration by another process, which has ended or
  // will write no more, so that the file that this object writes to is at path() again. What was
  // changed in the new file is lost. Nothing happens if there was no migration. kFailedPrecondition
  // when there is no `path`.previous, or it is another file.
  absl::Status RollBackSuccessorsMigration();
  // For the successor: rolls back the migration by which Open() came to this file, if there was one,
  // because this process does not come to use it. This object is of no use after that.
  absl::Status RollBackOwnMigration();
  // Makes a migration final, if there was one; it has to be before anything new is acknowledged.
  // REQUIRES: a writer of the old file, if there is one, writes no more whatever happens.
  void FinishMigration();

  // Counters of worker `worker` (0 .. kStatisticsWorkersMax - 1), shared with all processes that map
  // the segment.
  WorkerStatistics& statistics(uint32_t worker);

 private:
  Registry(std::string path, std::unique_ptr<Segment> segment, std::unique_ptr<WriterPlace> place);

  friend class Claim;    // claim.h
  friend class Mending;  // mending.h

  std::string path_;
  const std::unique_ptr<Segment> segment_;
  const std::unique_ptr<WriterPlace> place_;
  const std::unique_ptr<const RegistryView> view_;
  const std::unique_ptr<Writer> writer_;
  // The count of registrations (low half), and the low half of the generation that it was made at.
  mutable std::atomic<uint64_t> counted_{0};
  mutable std::atomic<bool> has_counted_{false};
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_REGISTRY_H_
