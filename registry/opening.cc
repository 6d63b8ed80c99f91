#include "registry/opening.h"

#include <memory>
#include <string>

#include "registry/migration.h"
#include "registry/segment_file.h"

namespace evermap {

absl::Status ToStatus(const Problem& problem) {
  switch (problem.kind) {
    case Problem::Kind::kNone:
      return absl::OkStatus();
    case Problem::Kind::kNotFound:
      return absl::NotFoundError(problem.message);
    case Problem::Kind::kUnacceptable:
    case Problem::Kind::kNewer:
      return absl::FailedPreconditionError(problem.message);
    case Problem::Kind::kBusy:
      return absl::UnavailableError(problem.message);
    case Problem::Kind::kHeld:
    case Problem::Kind::kForeign:
      return absl::AbortedError(problem.message);
    case Problem::Kind::kNoSpace:
      return absl::ResourceExhaustedError(problem.message);
    case Problem::Kind::kSystem:
      return absl::InternalError(problem.message);
  }
  return absl::InternalError(problem.message);
}

std::unique_ptr<Segment> MapNewest(const std::string& path, uint32_t capacity,
                                   const WriterPlace& place, Problem& problem) {
  const auto map = [&] { return Segment::Map(path, SegmentAccess::kWrite, problem); };
  std::unique_ptr<Segment> segment = map();
  // A writer of the newer file may have acknowledged something since.
  if (problem.kind == Problem::Kind::kNewer && !place.HasCompany() &&
      RollBackUnfinishedMigration(path)) {
    segment = map();
  }
  if (problem.kind == Problem::Kind::kNotFound) {
    problem = CreateSegmentFile(path, capacity);
    if (problem) return nullptr;
    segment = map();
  }
  if (segment == nullptr || segment->is_newest()) return segment;
  problem = Migrate(path, *segment);
  if (problem) return nullptr;
  return map();
}

}  // namespace evermap
