#include "daemon/serve/source_limit.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <memory>
#include <string>

namespace evermap {
namespace {

sockaddr_storage Address(const std::string& text) {
  sockaddr_storage address = {};
  if (text.find(':') == std::string::npos) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address);
    v4.sin_family = AF_INET;
    EXPECT_EQ(inet_pton(AF_INET, text.c_str(), &v4.sin_addr), 1) << text;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_family = AF_INET6;
    EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr), 1) << text;
  }
  return address;
}

class SourceLimitTest : public testing::Test {
 protected:
  bool Enter(const std::string& source) { return limit_->Enter(Address(source), entry_); }
  void Fill(const std::string& source) {
    for (uint32_t i = 0; i < kRequestsPerSourceMax; ++i) ASSERT_TRUE(Enter(source));
  }

  const std::unique_ptr<SourceLimit> limit_ = std::make_unique<SourceLimit>();
  SourceLimit::Entry entry_ = SourceLimit::kNotCounted;
};

TEST_F(SourceLimitTest, BoundsWhatWaitsForOneSource) {
  Fill("192.0.2.1");
  const SourceLimit::Entry counted = entry_;
  EXPECT_NE(counted, SourceLimit::kNotCounted);
  EXPECT_FALSE(Enter("192.0.2.1"));
  EXPECT_EQ(entry_, SourceLimit::kNotCounted);
  limit_->Leave(entry_);
  EXPECT_FALSE(Enter("192.0.2.1"));
  limit_->Leave(counted);
  EXPECT_TRUE(Enter("192.0.2.1"));
  EXPECT_FALSE(Enter("::ffff:192.0.2.1"));
}

TEST_F(SourceLimitTest, CountsIpv6ByItsNetwork) {
  Fill("2001:db8:1:2::1");
  EXPECT_FALSE(Enter("2001:db8:1:2:ffff::7"));
}

TEST_F(SourceLimitTest, DoesNotCountThisHost) {
  for (const char* source : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}) {
    Fill(source);
    EXPECT_TRUE(Enter(source)) << source;
    EXPECT_EQ(entry_, SourceLimit::kNotCounted) << source;
  }
  EXPECT_TRUE(limit_->Enter({}, entry_));
  EXPECT_EQ(entry_, SourceLimit::kNotCounted);
}

}  // namespace
}  // namespace evermap
