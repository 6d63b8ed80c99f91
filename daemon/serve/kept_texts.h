// The texts of NAMES and DUMP that somebody still sends, and how much memory they take.
//
// Thread safety: a KeptTexts and its texts belong to one worker.
#ifndef EVERMAP_DAEMON_SERVE_KEPT_TEXTS_H_
#define EVERMAP_DAEMON_SERVE_KEPT_TEXTS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "daemon/serve/connections.h"

namespace evermap {

// Bytes of texts that slow readers may keep alive in each worker.
inline constexpr size_t kSlowTextsSizeMax = size_t{64} << 20;

class KeptTexts {
 public:
  // Counts `text` for as long as anybody has the result, which may outlive this object.
  SharedText Keep(std::string text) {
    text.shrink_to_fit();
    *size_ += text.size();
    return SharedText(new std::string(std::move(text)), [size = size_](const std::string* ended) {
      *size -= ended->size();
      delete ended;
    });
  }

  // Bytes of all texts that anybody has.
  size_t size() const { return *size_; }

 private:
  // Is shared with the texts, which take themselves off it.
  std::shared_ptr<size_t> size_ = std::make_shared<size_t>(0);
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_KEPT_TEXTS_H_
