// Text for people: the system's errors, and bytes that come from strangers.
//
// Arguments, replies and names of nodes in an old registry may hold any bytes. Each way in which the
// project shows them is here, so that none of them can break a line, drive a terminal or invalidate
// a document:
//   Escaped(), Quote()   logs and messages: nothing is lost, "\n" and "\x1b" are spelled out
//   Printable()          terminals, tables, lists and metrics: one '?' for a control character, so
//                        that columns fit
//   ValidUtf8()          documents that take valid UTF-8 only
// They differ on purpose: a log must show what was there, a table must not grow by showing it, and
// a document needs no change to the control characters, which its own encoder escapes.
// The escaping of HTML is the exporter's (tools/exporter/pages.cc).
//
// A control character is what ends a line, drives a terminal or turns the direction of writing, for
// any program that takes UTF-8:
//   U+0000 to U+001F, U+007F to U+009F   Unicode's category Cc: those of ASCII and of ISO 8859
//   U+2028, U+2029                       separators of lines and paragraphs
//   U+202A to U+202E, U+2066 to U+2069   embedding, override and isolation of a direction
// No node of Erlang's has one in its name: `net_kernel` takes letters, digits, '_' and '-'.
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

// Whether there is a control character in `bytes`.
bool HasControls(std::string_view bytes);

// `bytes` on one line, with the escapes of C: \n, \r, \t, \", \', \\, and \xHH for each byte of
// another control character and for what is not valid UTF-8; also for a hexadecimal digit after such
// an escape, which would be read as a part of it.
std::string Escaped(std::string_view bytes);

// Escaped() between single quotes.
std::string Quote(std::string_view bytes);

// `bytes` with '?' for each control character, and for each byte that is not part of a valid sequence
// of UTF-8, which may be a control character where a terminal does not take UTF-8.
std::string Printable(std::string_view bytes);

// `bytes` with U+FFFD for each byte that is not part of a valid sequence of UTF-8 (RFC 3629: no
// overlong forms, no surrogates, nothing above U+10FFFF).
std::string ValidUtf8(std::string_view bytes);

// The digits that atoi(3) would take from the beginning of `text`, after blanks and a '+': a part of
// `text`. Empty when there are none.
std::string_view NumberAsAtoi(std::string_view text);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_BASE_TEXT_H_
