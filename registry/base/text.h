// Text for people: the system's errors, and bytes that come from strangers.
//
// Names of nodes, arguments and replies may hold any bytes. Each way in which the project shows
// them is here, so that none of them can break a line, drive a terminal or invalidate a document:
//   Escaped(), Quote()   logs and messages: nothing is lost, "\n" and "\x1b" are spelled out
//   Printable()          terminals and tables: one '?' for a control character, so that columns fit
//   ValidUtf8()          JSON and metrics, which take valid UTF-8 only
// They differ on purpose: a log must show what was there, a table must not grow by showing it, and
// a document needs no change to the control characters, which its own encoder escapes.
// The escaping of HTML is the exporter's (tools/exporter/pages.cc).
//
// Depends on nothing but the standard library, as the C library is made of it too. Thread safety:
// all functions may be called from any number of threads.
#ifndef EVERMAP_REGISTRY_BASE_TEXT_H_
#define EVERMAP_REGISTRY_BASE_TEXT_H_

#include <string>
#include <string_view>

namespace evermap {

// What the C library says of errno value `error`.
std::string ErrorText(int error);

// `bytes` on one line, with the escapes of C: \n, \r, \t, \", \', \\, and \xHH for all else that is
// not printable in ASCII; also for a hexadecimal digit after such an escape, which would be read as
// a part of it. Bytes from 0x80 on are left as they are, since they may be UTF-8.
std::string Escaped(std::string_view bytes);

// Escaped() between single quotes.
std::string Quote(std::string_view bytes);

// `bytes` with '?' for each control character of ASCII (below 0x20, and 0x7f).
std::string Printable(std::string_view bytes);

// `bytes` with U+FFFD for each byte that is not part of a valid sequence of UTF-8 (RFC 3629: no
// overlong forms, no surrogates, nothing above U+10FFFF).
std::string ValidUtf8(std::string_view bytes);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_TEXT_H_
