#include "daemon/serve/source_limit.h"

#include <cassert>
#include <string_view>

#include "absl/hash/hash.h"
#include "daemon/host/address.h"

namespace evermap {

bool SourceLimit::Enter(const sockaddr_storage& source, Entry& entry) {
  // An IPv4 address is counted by all of its bytes, an IPv6 address by its first half: a /64 is
  // what one host can choose from.
  constexpr size_t kNetworkBytes = 8;
  const AddressBytes address = BytesOf(source);
  entry = kNotCounted;
  if (address.size == 0 || IsLoopback(source)) return true;
  const std::string_view network(address.bytes.data(),
                                 address.size < kNetworkBytes ? address.size : kNetworkBytes);
  // absl::Hash is seeded anew for each process, so no source can choose another one whose entry it
  // shares.
  const auto chosen = static_cast<Entry>(absl::Hash<std::string_view>()(network) % kEntries);
  if (open_[chosen].fetch_add(1, std::memory_order_relaxed) >= kRequestsPerSourceMax) {
    open_[chosen].fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  entry = chosen;
  return true;
}

void SourceLimit::Leave(Entry entry) {
  if (entry == kNotCounted) return;
  const uint32_t open = open_[entry].fetch_sub(1, std::memory_order_relaxed);
  assert(open > 0);
  static_cast<void>(open);
}

}  // namespace evermap
