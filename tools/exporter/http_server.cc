#include "tools/exporter/http_server.h"

#include <civetweb.h>

#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace evermap::exporter {
namespace {

const char* ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

// Any local process can register a node under any name, so nothing in an answer may run or load
// anything in a browser.
constexpr char kSafetyHeaders[] =
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n";

constexpr unsigned kFeatureIpv6 = 8;  // of mg_check_feature()

}  // namespace

int HttpServer::OnRequest(mg_connection* connection) {
  const auto* server = static_cast<const HttpServer*>(mg_get_user_data(mg_get_context(connection)));
  const mg_request_info* request = mg_get_request_info(connection);
  const std::string_view method = request->request_method;
  const bool is_head = method == "HEAD";
  HttpReply reply;
  if (method == "GET" || is_head) {
    reply = server->handler_(request->local_uri == nullptr ? "" : request->local_uri);
  } else {
    reply = {405, "text/plain; charset=utf-8", "GET or HEAD only\n"};
  }
  const std::string head = absl::StrFormat(
      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s%s"
      "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
      reply.status, ReasonPhrase(reply.status), reply.content_type, reply.body.size(),
      kSafetyHeaders, reply.status == 405 ? "Allow: GET, HEAD\r\n" : "");
  // The results are ignored: a client that has gone meanwhile is no failure of the server.
  mg_write(connection, head.data(), head.size());
  if (!is_head) mg_write(connection, reply.body.data(), reply.body.size());
  return reply.status;
}

int HttpServer::OnLogMessage(const mg_connection* connection, const char* message) {
  // The first message says why the server cannot start; the next ones follow from it. Messages that
  // come later are about clients, which do not concern the operator.
  if (connection != nullptr) {
    auto* server = static_cast<HttpServer*>(mg_get_user_data(mg_get_context(connection)));
    if (server != nullptr && !server->has_message_.exchange(true)) server->message_ = message;
  }
  return 1;
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address,
                                                              Handler handler) {
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(handler)));
  mg_init_library(0);  // the destructor ends it
  const std::string threads = absl::StrCat(kThreads);
  const std::string timeout_ms = absl::StrCat(kRequestTimeoutMs);
  const char* options[] = {
      "listening_ports",
      address.c_str(),
      "num_threads",
      threads.c_str(),
      "request_timeout_ms",
      timeout_ms.c_str(),
      "enable_keep_alive",
      "no",
      "tcp_nodelay",
      "1",
      nullptr,
  };
  mg_callbacks callbacks = {};
  callbacks.begin_request = OnRequest;
  callbacks.log_message = OnLogMessage;
  if (address.front() == '[' && mg_check_feature(kFeatureIpv6) == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", address,
        ": civetweb is built without IPv6 here (as Debian's is); take an IPv4 address"));
  }
  server->context_ = mg_start(&callbacks, server.get(), options);
  if (server->context_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, ": ",
                     server->has_message_ ? server->message_ : "civetweb does not say why"));
  }
  return server;
}

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
  mg_exit_library();
}

uint16_t HttpServer::port() const {
  mg_server_port listening = {};
  return mg_get_server_ports(context_, 1, &listening) == 1 ? static_cast<uint16_t>(listening.port)
                                                           : uint16_t{0};
}

}  // namespace evermap::exporter
