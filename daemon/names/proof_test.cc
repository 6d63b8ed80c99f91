// Who may have the name of an orphan (INV-13): each row of the table in proof.h, and the same with
// real sockets.
#include "daemon/names/proof.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "daemon/host/tcp_pair_for_test.h"

namespace evermap {
namespace {

constexpr uint16_t kPort = 5000;
constexpr uint16_t kOtherPort = 5001;
constexpr uint32_t kOwner = 1000;
constexpr uint32_t kOther = 1001;
constexpr uint32_t kRoot = 0;
constexpr uint64_t kCookie = 77;
constexpr TcpListener kItsSocket = {.cookie = kCookie, .uid = kOwner};

Registration Orphan(uint64_t cookie = kCookie, uint32_t owner_uid = kOwner) {
  Registration orphan = {};
  orphan.id = 1;
  orphan.state = RegistrationState::kOrphaned;
  orphan.port = kPort;
  orphan.listener_cookie = cookie;
  orphan.owner_uid = owner_uid;
  return orphan;
}

Verdict Of(const Registration& orphan, Newcomer newcomer,
           const std::vector<TcpListener>& listeners) {
  return Judge(orphan, newcomer, listeners);
}

TEST(Inv13Test, WhileItsSocketIsThereOnlyItsOwnUserWithItsPortAdopts) {
  const std::vector<TcpListener> there = {{.cookie = 78, .uid = kOther}, kItsSocket};
  EXPECT_EQ(Of(Orphan(), {kPort, kOwner}, there), Verdict::kAdopt);
  EXPECT_EQ(Of(Orphan(), {kOtherPort, kOwner}, there), Verdict::kRefuse);
  for (const uint32_t uid : {kOther, kRoot, kUnknownUid}) {
    EXPECT_EQ(Of(Orphan(), {kPort, uid}, there), Verdict::kRefuse) << uid;
    EXPECT_EQ(Of(Orphan(), {kOtherPort, uid}, there), Verdict::kRefuse) << uid;
  }
}

TEST(Inv13Test, WhenItsSocketIsGoneAnybodyReplacesIt) {
  // The port may be another socket's meanwhile, also of the same user.
  const std::vector<std::vector<TcpListener>> others = {
      {}, {{.cookie = 78, .uid = kOther}}, {{.cookie = 78, .uid = kOwner}}};
  for (const auto& there : others) {
    for (const uint32_t uid : {kOwner, kOther, kRoot, kUnknownUid}) {
      EXPECT_EQ(Of(Orphan(), {kPort, uid}, there), Verdict::kReplace) << uid;
      EXPECT_EQ(Of(Orphan(), {kOtherPort, uid}, there), Verdict::kReplace) << uid;
    }
  }
}

TEST(Inv13Test, WhereNoSocketIsRecordedItIsTheOwnersOnThePort) {
  const Registration orphan = Orphan(0);
  EXPECT_EQ(Of(orphan, {kPort, kOwner}, {kItsSocket}), Verdict::kAdopt);
  EXPECT_EQ(Of(orphan, {kOtherPort, kOwner}, {kItsSocket}), Verdict::kRefuse);
  EXPECT_EQ(Of(orphan, {kPort, kOther}, {kItsSocket}), Verdict::kRefuse);
  // The owner has nothing there any more.
  EXPECT_EQ(Of(orphan, {kPort, kOther}, {{.cookie = 78, .uid = kOther}}), Verdict::kReplace);
  EXPECT_EQ(Of(orphan, {kOtherPort, kOwner}, {}), Verdict::kReplace);
  // A node that does not listen comes back.
  EXPECT_EQ(Of(orphan, {kPort, kOwner}, {}), Verdict::kAdopt);
}

TEST(Inv13Test, WhereNoUserIsRecordedItsSocketTellsHim) {
  for (const uint64_t cookie : {kCookie, uint64_t{0}}) {
    const Registration orphan = Orphan(cookie, kUnknownUid);
    EXPECT_EQ(Of(orphan, {kPort, kOwner}, {kItsSocket}), Verdict::kAdopt);
    EXPECT_EQ(Of(orphan, {kOtherPort, kOwner}, {kItsSocket}), Verdict::kRefuse);
    EXPECT_EQ(Of(orphan, {kPort, kOther}, {kItsSocket}), Verdict::kRefuse);
    EXPECT_EQ(Of(orphan, {kPort, kUnknownUid}, {kItsSocket}), Verdict::kRefuse);
    EXPECT_EQ(Of(orphan, {kPort, kOther}, {}), Verdict::kReplace);
  }
  // Two users listen on the port, at different addresses: it may be either's.
  const Registration orphan = Orphan(0, kUnknownUid);
  const std::vector<TcpListener> two = {kItsSocket, {.cookie = 78, .uid = kOther}};
  EXPECT_EQ(Of(orphan, {kPort, kOwner}, two), Verdict::kRefuse);
  EXPECT_EQ(Of(orphan, {kPort, kOther}, two), Verdict::kRefuse);
  // Nobody is known: two unknowns are not the same user.
  const std::vector<TcpListener> unknown = {{.cookie = 78, .uid = kUnknownUid}};
  EXPECT_EQ(Of(orphan, {kPort, kUnknownUid}, unknown), Verdict::kRefuse);
}

TEST(Inv13Test, WithoutCookiesTheOwnersSocketOnThePortIsANewOne) {
  const std::vector<TcpListener> from_proc = {{.cookie = 0, .uid = kOwner}};
  EXPECT_EQ(Of(Orphan(), {kPort, kOwner}, from_proc), Verdict::kReplace);
  EXPECT_EQ(Of(Orphan(), {kOtherPort, kOwner}, from_proc), Verdict::kRefuse);
  EXPECT_EQ(Of(Orphan(), {kPort, kOther}, from_proc), Verdict::kRefuse);
  EXPECT_EQ(Of(Orphan(0), {kPort, kOwner}, from_proc), Verdict::kAdopt);
  EXPECT_EQ(Of(Orphan(), {kPort, kOther}, {{.cookie = 0, .uid = kOther}}), Verdict::kReplace);
}

TEST(Inv13Test, OfRealSockets) {
  SocketQuery query(SocketQuery::Fallback::kNone);
  Proof proof(query);
  auto listener = std::make_unique<LoopbackListener>();
  Registration orphan = Orphan(SocketCookie(listener->fd.get()), getuid());
  orphan.port = ntohs(listener->address.sin_port);
  const TcpPair newcomer;
  EXPECT_EQ(proof.Of(orphan, orphan.port, newcomer.server.get()), Verdict::kAdopt);
  EXPECT_EQ(proof.Of(orphan, 1, newcomer.server.get()), Verdict::kRefuse);
  // A connection whose other end is not told, as it has one that is no socket of TCP.
  EXPECT_EQ(proof.Of(orphan, orphan.port, -1), Verdict::kRefuse);
  orphan.owner_uid = getuid() + 1;
  EXPECT_EQ(proof.Of(orphan, orphan.port, newcomer.server.get()), Verdict::kRefuse);
  orphan.owner_uid = kUnknownUid;
  EXPECT_EQ(proof.Of(orphan, orphan.port, newcomer.server.get()), Verdict::kAdopt);
  listener = nullptr;
  EXPECT_EQ(proof.Of(orphan, 1, newcomer.server.get()), Verdict::kReplace);
}

}  // namespace
}  // namespace evermap
