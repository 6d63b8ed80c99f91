// Linked into the programs that have the C library in them (meson option `static`), and into no
// other.
//
// To look up a user or a host the C library loads the modules that the machine's nsswitch.conf names
// and that it does not contain itself. They are made for the machine's C library, not for the one in
// here: systemd's, which many machines name for users, ends a static program by SIGSEGV. So a static
// program knows the users in /etc/passwd and the hosts in /etc/hosts and the DNS only.
#include <nss.h>

namespace {

[[gnu::constructor]] void UseOwnModulesOnly() {
  // Without memory for this there is none to look anything up either.
  __nss_configure_lookup("passwd", "files");
  __nss_configure_lookup("hosts", "files dns");
}

}  // namespace
