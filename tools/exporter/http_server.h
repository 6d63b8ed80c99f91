// A small HTTP server over civetweb: GET and HEAD of a few paths, each answered as a whole.
//
// prometheus-cpp's own server (Exposer) has no other paths than those of metrics, so its serializer
// is used with the web server that it is made of.
#ifndef EVERMAP_TOOLS_EXPORTER_HTTP_SERVER_H_
#define EVERMAP_TOOLS_EXPORTER_HTTP_SERVER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

struct mg_connection;
struct mg_context;

namespace evermap::exporter {

struct HttpReply {
  int status = 200;
  std::string content_type;
  std::string body;
};

class HttpServer {
 public:
  // Called for a path, without its query, by several threads at once.
  using Handler = std::function<HttpReply(std::string_view path)>;

  // Requests in work at once, and how long one may take to send or to be read: a client that does
  // neither is closed, so that it cannot keep others out for long.
  static constexpr int kThreads = 8;
  static constexpr int kRequestTimeoutMs = 5000;

  // Listens on `address`, "IP:PORT" with IPv6 in brackets; port 0: one that is free. Fails with one
  // line that says why.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address,
                                                           Handler handler);

  // Waits for the requests in work.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

 private:
  explicit HttpServer(Handler handler) : handler_(std::move(handler)) {}

  static int OnRequest(mg_connection* connection);
  static int OnLogMessage(const mg_connection* connection, const char* message);

  Handler handler_;
  // The first that civetweb logged; to be read only when it has no threads.
  std::string message_;
  std::atomic<bool> has_message_ = false;
  mg_context* context_ = nullptr;
};

}  // namespace evermap::exporter

#endif  // EVERMAP_TOOLS_EXPORTER_HTTP_SERVER_H_
