// The client against a peer on a real socket, which takes every byte as a manager or a bus would,
// and replies with bytes that the test gives it.
#include "daemon/systemd/bus.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/systemd/manager.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr absl::Duration kImpatience = absl::Milliseconds(50);
constexpr char kOk[] = "OK 0123456789abcdef0123456789abcdef\r\n";

// A message of this type, as a reply to `serial`. A writer of calls does not make such.
std::string Reply(BusMessageType type, uint32_t serial, std::string_view signature,
                  std::string_view body, std::string_view error_name = "") {
  BusWriter writer;
  writer.Byte('l');
  writer.Byte(static_cast<uint8_t>(type));
  writer.Byte(1);
  writer.Byte(1);
  writer.Uint32(static_cast<uint32_t>(body.size()));
  writer.Uint32(1);
  const BusWriter::Array fields = writer.BeginArray(8);
  writer.Align(8);
  writer.Byte(5);
  writer.Signature("u");
  writer.Uint32(serial);
  if (!signature.empty()) {
    writer.Align(8);
    writer.Byte(8);
    writer.Signature("g");
    writer.Signature(signature);
  }
  if (!error_name.empty()) {
    writer.Align(8);
    writer.Byte(4);
    writer.Signature("s");
    writer.String(error_name);
  }
  writer.EndArray(fields);
  writer.Align(8);
  return writer.bytes() + std::string(body);
}

std::string TextBody(std::string_view text) {
  BusWriter writer;
  writer.String(text);
  return writer.bytes();
}

// Listens at a path; one connection is served by `serve`, on a thread of its own.
class Peer {
 public:
  explicit Peer(const std::function<void(Peer&)>& serve) {
    char directory[] = "/tmp/evermap-bus-XXXXXX";
    directory_ = mkdtemp(directory);
    path_ = directory_ + "/socket";
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    listener_ = OwnedFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    thread_ = std::thread([this, serve] {
      connection_ = OwnedFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      serve(*this);
      connection_ = OwnedFd();
    });
  }
  ~Peer() {
    thread_.join();
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }

  const std::string& path() const { return path_; }

  // What one read of the socket takes.
  std::string ReadOnce() {
    std::string bytes(size_t{1} << 16, '\0');
    const ssize_t got = read(connection_.get(), bytes.data(), bytes.size());
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }
  void Write(std::string_view bytes) {
    EXPECT_EQ(send(connection_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void Authenticate() {
    ReadOnce();
    Write(kOk);
  }
  // Takes a call, remembers it and replies.
  void Answer(uint32_t serial, std::string_view signature, std::string_view body) {
    calls.push_back(ReadOnce());
    Write(Reply(BusMessageType::kReply, serial, signature, body));
  }

  std::vector<std::string> calls;

 private:
  std::string directory_;
  std::string path_;
  OwnedFd listener_;
  OwnedFd connection_;
  std::thread thread_;
};

const BusCall kSomeCall = {.destination = "d",
                           .path = "/",
                           .interface = "i",
                           .member = "m",
                           .signature = "",
                           .arguments = ""};

TEST(BusTest, AuthenticationIsOneWrite) {
  std::string received;
  {
    Peer peer([&received](Peer& self) {
      received = self.ReadOnce();
      self.Write(kOk);
    });
    EXPECT_TRUE(Bus::Connect(peer.path(), kPatience).ok());
  }
  const std::string user = absl::BytesToHexString(absl::StrCat(geteuid()));
  EXPECT_EQ(received, "\0AUTH EXTERNAL "s + user + "\r\nBEGIN\r\n");
}

TEST(BusTest, NobodyThere) {
  const auto bus = Bus::Connect("/nowhere/bus", kPatience);
  EXPECT_EQ(bus.status().message(), "/nowhere/bus: No such file or directory");
  EXPECT_FALSE(Bus::Connect("/" + std::string(200, 'x'), kPatience).ok());
}

TEST(BusTest, ARefusedUser) {
  Peer peer([](Peer& self) {
    self.ReadOnce();
    self.Write("REJECTED EXTERNAL\r\n");
  });
  EXPECT_THAT(Bus::Connect(peer.path(), kPatience).status().message(),
              HasSubstr("Permission denied"));
}

TEST(BusTest, APeerThatDoesNotAuthenticate) {
  for (const std::string& said : {std::string(), std::string(5000, 'x')}) {
    Peer peer([&said](Peer& self) {
      self.ReadOnce();
      if (!said.empty()) self.Write(said);
    });
    EXPECT_FALSE(Bus::Connect(peer.path(), kPatience).ok());
  }
}

TEST(BusTest, APeerThatIsSilent) {
  Peer silent([](Peer& self) {
    self.ReadOnce();
    self.ReadOnce();  // until the other end closes
  });
  const auto bus = Bus::Connect(silent.path(), kImpatience);
  EXPECT_THAT(bus.status().message(), HasSubstr("timed out"));
}

TEST(BusTest, ACallThatIsNotAnswered) {
  Peer peer([](Peer& self) {
    self.Authenticate();
    self.ReadOnce();
    self.ReadOnce();
  });
  auto bus = Bus::Connect(peer.path(), kImpatience);
  if (!bus.ok()) GTEST_SKIP() << "this machine is slow: " << bus.status();
  EXPECT_THAT(bus->Call(kSomeCall).status().message(), HasSubstr("timed out"));
}

TEST(BusTest, AReplyIsFoundAmongOtherMessages) {
  Peer peer([](Peer& self) {
    self.Authenticate();
    self.ReadOnce();
    self.Write(Reply(BusMessageType::kSignal, 0, "s", TextBody("NameAcquired")) +
               Reply(BusMessageType::kReply, 9, "s", TextBody("of another call")) +
               Reply(BusMessageType::kReply, 1, "s", TextBody("it")));
  });
  auto bus = Bus::Connect(peer.path(), kPatience);
  ASSERT_TRUE(bus.ok()) << bus.status();
  const auto reply = bus->Call(kSomeCall);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->signature, "s");
  EXPECT_EQ(BusReader(reply->body).String(), "it");
}

TEST(BusTest, AReplyThatComesByteByByte) {
  const std::string text(5000, 'y');
  Peer peer([&text](Peer& self) {
    self.ReadOnce();
    for (const char byte : std::string_view(kOk)) self.Write(std::string_view(&byte, 1));
    self.ReadOnce();
    for (const char byte : Reply(BusMessageType::kReply, 1, "s", TextBody(text))) {
      self.Write(std::string_view(&byte, 1));
    }
  });
  auto bus = Bus::Connect(peer.path(), kPatience);
  ASSERT_TRUE(bus.ok()) << bus.status();
  const auto reply = bus->Call(kSomeCall);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(BusReader(reply->body).String(), text);
}

TEST(BusTest, AnErrorIsItsText) {
  Peer peer([](Peer& self) {
    self.Authenticate();
    self.ReadOnce();
    self.Write(Reply(BusMessageType::kError, 1, "s", TextBody("Unit is masked."), "a.b.C"));
    self.ReadOnce();
    self.Write(Reply(BusMessageType::kError, 2, "", "", "a.b.NoReason"));
  });
  auto bus = Bus::Connect(peer.path(), kPatience);
  ASSERT_TRUE(bus.ok()) << bus.status();
  const auto first = bus->Call(kSomeCall).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(first));
  EXPECT_EQ(first.message(), "Unit is masked.");
  EXPECT_EQ(bus->Call(kSomeCall).status().message(), "a.b.NoReason");
}

TEST(BusTest, APeerThatGoesOrSpeaksSomethingElse) {
  for (const std::string_view said : {"l\2\1\1"sv, "HTTP/1.1 400 Bad Request\r\n\r\n"sv,
                                      "l\2\1\1\0\0\0\0\1\0\0\0\xff\xff\xff\xff"sv}) {
    Peer peer([said](Peer& self) {
      self.Authenticate();
      self.ReadOnce();
      self.Write(said);
    });
    auto bus = Bus::Connect(peer.path(), kPatience);
    ASSERT_TRUE(bus.ok()) << bus.status();
    EXPECT_TRUE(absl::IsUnavailable(bus->Call(kSomeCall).status()));
  }
}

std::string VariantBody(std::string_view type, const std::function<void(BusWriter&)>& value) {
  BusWriter writer;
  writer.Signature(type);
  value(writer);
  return writer.bytes();
}

TEST(ManagerTest, QuestionsAndAnswers) {
  Peer peer([](Peer& self) {
    self.Authenticate();
    self.Answer(1, "s", TextBody(":1.7"));
    self.Answer(2, "o", TextBody("/unit"));
    self.Answer(3, "v", VariantBody("s", [](BusWriter& writer) { writer.String("loaded"); }));
    self.Answer(4, "v", VariantBody("as", [](BusWriter& writer) {
                  const BusWriter::Array array = writer.BeginArray(4);
                  writer.String("A=1");
                  writer.String("B=2");
                  writer.EndArray(array);
                }));
    self.Answer(5, "v", VariantBody("(uo)", [](BusWriter& writer) {
                  writer.Align(8);
                  writer.Uint32(12);
                  writer.String("/job/12");
                }));
    self.Answer(6, "o", TextBody("/job/13"));
    self.Answer(7, "o", TextBody("/job/14"));
    self.Answer(8, "o", TextBody("/job/15"));
    self.Answer(9, "v", VariantBody("(uo)", [](BusWriter& writer) {
                  writer.Align(8);
                  writer.Uint32(0);
                  writer.String("/");
                }));
  });
  auto manager = SystemdManager::ConnectTo(peer.path(), true, kPatience);
  ASSERT_TRUE(manager.ok()) << manager.status();
  EXPECT_EQ(manager->LoadUnit("epmd.service").value_or(""), "/unit");
  EXPECT_EQ(manager->Text("/unit", kUnitInterface, "LoadState").value_or(""), "loaded");
  EXPECT_THAT(manager->Texts("/unit", kServiceInterface, "Environment").value(),
              ElementsAre("A=1", "B=2"));
  EXPECT_EQ(manager->Job("/unit").value_or(""), "/job/12");
  EXPECT_TRUE(manager->StartUnit("epmd.service").ok());
  EXPECT_TRUE(manager->StartScope("epmd-1.scope", "a scope", 4242).ok());
  EXPECT_TRUE(manager->RestartUnitAlone("epmd.service").ok());
  EXPECT_EQ(manager->Job("/unit").value_or("?"), "");
  ASSERT_EQ(peer.calls.size(), 9u);
  EXPECT_THAT(peer.calls[0], HasSubstr("Hello"));
  const auto scope = DecodeBusMessage(peer.calls[6]);
  ASSERT_TRUE(scope.has_value());
  EXPECT_EQ(scope->signature, "ssa(sv)a(sa(sv))");
  BusReader reader(scope->body);
  EXPECT_EQ(reader.String(), "epmd-1.scope");
  EXPECT_EQ(reader.String(), "fail");
  const size_t properties_end = reader.BeginArray(8);
  EXPECT_EQ(reader.String(), "Description");
  EXPECT_EQ(reader.Signature(), "s");
  EXPECT_EQ(reader.String(), "a scope");
  reader.Align(8);
  EXPECT_EQ(reader.String(), "PIDs");
  EXPECT_EQ(reader.Signature(), "au");
  const size_t pids_end = reader.BeginArray(4);
  EXPECT_EQ(pids_end, reader.position() + 4);
  EXPECT_EQ(reader.Uint32(), 4242u);
  reader.Align(8);
  EXPECT_EQ(reader.String(), "CollectMode");
  EXPECT_EQ(reader.Signature(), "s");
  EXPECT_EQ(reader.String(), "inactive-or-failed");
  EXPECT_EQ(reader.position(), properties_end);
  const size_t units_end = reader.BeginArray(8);
  EXPECT_EQ(units_end, reader.position());
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.position(), scope->body.size());
  EXPECT_THAT(peer.calls[7], HasSubstr("RestartUnit"));
  EXPECT_THAT(peer.calls[7], HasSubstr("epmd.service"));
  EXPECT_THAT(peer.calls[7], HasSubstr("ignore-dependencies"));
}

TEST(ManagerTest, Numbers) {
  Peer peer([](Peer& self) {
    self.Authenticate();
    self.Answer(1, "v", VariantBody("t", [](BusWriter& writer) {
                  writer.Align(8);
                  writer.Uint32(0x12345678);
                  writer.Uint32(0x12345678);
                }));
    self.Answer(2, "v", VariantBody("u", [](BusWriter& writer) { writer.Uint32(1); }));
  });
  auto manager = SystemdManager::ConnectTo(peer.path(), false, kPatience);
  ASSERT_TRUE(manager.ok()) << manager.status();
  EXPECT_EQ(manager->Number("/unit", kUnitInterface, "Time").value_or(0), 0x1234567812345678u);
  EXPECT_FALSE(manager->Number("/unit", kUnitInterface, "OfAnotherType").ok());
}

TEST(ManagerTest, AnswersOfAnotherType) {
  Peer peer([](Peer& self) {
    self.Authenticate();
    self.Answer(1, "s", TextBody("/unit"));
    self.Answer(2, "v", VariantBody("u", [](BusWriter& writer) { writer.Uint32(1); }));
    self.Answer(3, "v", VariantBody("s", [](BusWriter& writer) { writer.String("x"); }));
    self.Answer(4, "v", VariantBody("as", [](BusWriter& writer) { writer.Uint32(1000); }));
    self.Answer(5, "", "");
  });
  auto manager = SystemdManager::ConnectTo(peer.path(), false, kPatience);
  ASSERT_TRUE(manager.ok()) << manager.status();
  EXPECT_FALSE(manager->LoadUnit("epmd.service").ok());
  EXPECT_FALSE(manager->Text("/unit", kUnitInterface, "LoadState").ok());
  EXPECT_FALSE(manager->Texts("/unit", kServiceInterface, "Environment").ok());
  EXPECT_FALSE(manager->Texts("/unit", kServiceInterface, "Environment").ok());
  EXPECT_FALSE(manager->Job("/unit").ok());
}

}  // namespace
}  // namespace evermap
