#include "daemon/host/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "gtest/gtest.h"

namespace evermap {
namespace {

sockaddr_storage Address(const char* text) {
  sockaddr_storage address = {};
  auto& v4 = reinterpret_cast<sockaddr_in&>(address);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
  if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
    address.ss_family = AF_INET;
  } else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
    address.ss_family = AF_INET6;
  }
  return address;
}

bool Contains(const char* network, const char* address) {
  const std::optional<Network> parsed = Network::Parse(network);
  EXPECT_TRUE(parsed.has_value()) << network;
  return parsed.has_value() && parsed->Contains(Address(address));
}

TEST(NetworkTest, Ipv4) {
  EXPECT_TRUE(Contains("192.0.2.0/24", "192.0.2.255"));
  EXPECT_FALSE(Contains("192.0.2.0/24", "192.0.3.0"));
  EXPECT_TRUE(Contains("192.0.2.128/25", "192.0.2.200"));
  EXPECT_FALSE(Contains("192.0.2.128/25", "192.0.2.127"));
  EXPECT_TRUE(Contains("192.0.2.1", "192.0.2.1"));
  EXPECT_FALSE(Contains("192.0.2.1/32", "192.0.2.2"));
  EXPECT_TRUE(Contains("0.0.0.0/0", "203.0.113.9"));
}

TEST(NetworkTest, Ipv6) {
  EXPECT_TRUE(Contains("2001:db8::/32", "2001:db8:ffff::1"));
  EXPECT_FALSE(Contains("2001:db8::/32", "2001:db9::1"));
  EXPECT_TRUE(Contains("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(Contains("2001:db8::/33", "2001:db8:8000::1"));
  EXPECT_TRUE(Contains("::/0", "2001:db8::1"));
  EXPECT_TRUE(Contains("2001:db8::1", "2001:db8::1"));
}

TEST(NetworkTest, Ipv4InIpv6IsIpv4) {
  EXPECT_TRUE(Contains("192.0.2.0/24", "::ffff:192.0.2.7"));
  EXPECT_FALSE(Contains("192.0.2.0/24", "::ffff:192.0.3.7"));
  EXPECT_TRUE(Contains("::ffff:192.0.2.0/120", "192.0.2.7"));
  EXPECT_EQ(Network::Parse("::ffff:192.0.2.0/120"), Network::Parse("192.0.2.0/24"));
  EXPECT_TRUE(Contains("::ffff:0:0/96", "198.51.100.1"));
  EXPECT_FALSE(Contains("::/0", "192.0.2.7"));
  EXPECT_FALSE(Contains("0.0.0.0/0", "2001:db8::1"));
}

TEST(NetworkTest, WhatIsNone) {
  for (const char* text :
       {"", "/", "/24", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2/24", "192.0.2.1/24",
        "192.0.2.0/24/24", "192.0.2.0/2x", "2001:db8::/129", "2001:db8::1/64",
        "::ffff:192.0.2.1/120", "fe80::1%eth0", "localhost", "192.0.2.0 /24", "192.0.2.0/+8"}) {
    EXPECT_FALSE(Network::Parse(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace evermap
