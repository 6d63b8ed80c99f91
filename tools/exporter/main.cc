// epmd-exporter: what an Evermap mapper knows and does, over HTTP, for Prometheus and for a
// browser. It reads the registry in shared memory, so that the mapper is not asked and does nothing
// for it.
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "registry/base/clock.h"
#include "registry/location.h"
#include "tools/exporter/http_server.h"
#include "tools/exporter/metrics.h"
#include "tools/exporter/pages.h"
#include "tools/exporter/snapshot.h"
#include "tools/port_variable.h"

namespace evermap::exporter {
namespace {

constexpr int kExitCannotListen = 1;
constexpr char kListenDefault[] = "127.0.0.1:14369";
constexpr char kTextPlain[] = "text/plain; charset=utf-8";

HttpReply Answer(std::string_view path, const std::string& registry_path, const std::string& host) {
  if (path != "/" && path != "/metrics" && path != "/sd") {
    return {404, kTextPlain, "There are /, /metrics and /sd.\n"};
  }
  const Snapshot snapshot = Snapshot::Take(registry_path);
  if (path == "/metrics") {
    return {200, "text/plain; version=0.0.4; charset=utf-8", MetricsText(snapshot)};
  }
  if (path == "/sd") {
    // An empty list would say that there are no nodes. After a failure Prometheus keeps the nodes
    // that it knows.
    if (!snapshot.readable()) return {503, kTextPlain, absl::StrCat(snapshot.problem(), "\n")};
    return {200, "application/json", ServiceDiscoveryJson(snapshot, host)};
  }
  return {snapshot.readable() ? 200 : 503, "text/html; charset=utf-8",
          StatusPageHtml(snapshot, UnixNs())};
}

std::string HostName() {
  std::array<char, HOST_NAME_MAX + 1> name = {};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "localhost";
}

// What is wrong with `address`; empty when it is IP:PORT.
std::string ListenAddressComplaint(const std::string& address) {
  static constexpr char kForm[] =
      "must be IP:PORT, such as 127.0.0.1:14369, [::1]:14369 or 0.0.0.0:14369";
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port > UINT16_MAX) {
    return kForm;
  }
  std::string ip = address.substr(0, colon);
  std::array<unsigned char, sizeof(in6_addr)> parsed;
  if (ip.size() > 2 && ip.front() == '[' && ip.back() == ']') {
    ip = ip.substr(1, ip.size() - 2);
    return inet_pton(AF_INET6, ip.c_str(), parsed.data()) == 1 ? "" : kForm;
  }
  return inet_pton(AF_INET, ip.c_str(), parsed.data()) == 1 ? "" : kForm;
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Shows over HTTP what an Evermap port mapper knows and does: /metrics for Prometheus,\n"
      "/sd lists the nodes for its HTTP service discovery, / is for a browser.",
      "epmd-exporter");
  app.set_version_flag("--version", "epmd-exporter " EVERMAP_VERSION);
  // The last one of an option that is given twice counts, so that an operator can override the
  // options of a systemd unit by adding others.
  app.option_defaults()->take_last();
  std::string listen = kListenDefault;
  std::string registry_path;
  uint16_t mapper_port = 4369;
  std::string host;
  app.add_option("--listen", listen, "IP:PORT to listen on; port 0: any that is free")
      ->capture_default_str()
      ->check(CLI::Validator(ListenAddressComplaint, "IP:PORT"));
  app.add_option("--port", mapper_port, "port of the mapper")
      ->envname(kPortVariable)
      ->capture_default_str();
  app.add_option("--registry", registry_path,
                 "registry file (default: where the mapper on that port keeps it)");
  app.add_option("--host", host, "this host in the answers of /sd (default: its name)");
  TakePortVariableAsAtoi("epmd-exporter");
  CLI11_PARSE(app, argc, argv);
  if (host.empty()) host = HostName();

  // The signals are blocked before other threads are made, which inherit that: then only the
  // sigwait() below receives them.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);

  absl::StatusOr<std::unique_ptr<HttpServer>> server =
      HttpServer::Start(listen, [&](std::string_view path) {
        // The path is looked up for each request, because the mapper may start after the exporter.
        return Answer(path,
                      registry_path.empty() ? UsualRegistryPath(mapper_port, Preference::kSystem)
                                            : registry_path,
                      host);
      });
  if (!server.ok()) {
    std::fprintf(stderr, "epmd-exporter: %s\n", std::string(server.status().message()).c_str());
    return kExitCannotListen;
  }
  std::fprintf(stderr, "epmd-exporter: listening on %s:%u\n",
               listen.substr(0, listen.rfind(':')).c_str(), unsigned{(*server)->port()});
  int signal_number = 0;
  sigwait(&ends, &signal_number);
  return 0;
}

}  // namespace
}  // namespace evermap::exporter

int main(int argc, char** argv) { return evermap::exporter::Main(argc, argv); }
