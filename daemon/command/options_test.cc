#include "daemon/command/options.h"

#include <string>
#include <vector>

#include "daemon/command/parse_for_test.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(OptionsTest, Defaults) {
  const Options options = ParseOrFail({});
  EXPECT_EQ(options.command, Command::kServe);
  EXPECT_EQ(options.port, 4369);
  EXPECT_THAT(options.addresses, IsEmpty());
  EXPECT_FALSE(options.systemd);
  EXPECT_FALSE(options.daemon);
  EXPECT_FALSE(options.no_keeper);
  EXPECT_FALSE(options.relaxed_command_check);
  EXPECT_EQ(options.debug_level, 0);
  EXPECT_EQ(options.packet_timeout, absl::Seconds(60));
  EXPECT_EQ(options.delay_accept, absl::ZeroDuration());
  EXPECT_EQ(options.delay_write, absl::ZeroDuration());
  EXPECT_EQ(options.loop, std::nullopt);
  EXPECT_EQ(options.workers, 0u);
  EXPECT_EQ(options.registry_path, "");
  EXPECT_EQ(options.capacity, kRegistryCapacityDefault);
}

TEST(OptionsTest, Flags) {
  EXPECT_TRUE(ParseOrFail({"-daemon"}).daemon);
  EXPECT_TRUE(ParseOrFail({"-systemd"}).systemd);
  EXPECT_TRUE(ParseOrFail({"-no_keeper"}).no_keeper);
  EXPECT_TRUE(ParseOrFail({"-relaxed_command_check"}).relaxed_command_check);
  EXPECT_EQ(ParseOrFail({"-d"}).debug_level, 1);
  EXPECT_EQ(ParseOrFail({"-debug", "-d", "-daemon", "-d"}).debug_level, 3);
}

TEST(OptionsTest, Values) {
  EXPECT_EQ(ParseOrFail({"-port", "1"}).port, 1);
  EXPECT_EQ(ParseOrFail({"-port", "65535"}).port, 65535);
  EXPECT_EQ(ParseOrFail({"-packet_timeout", "5"}).packet_timeout, absl::Seconds(5));
  EXPECT_EQ(ParseOrFail({"-delay_accept", "7"}).delay_accept, absl::Seconds(7));
  EXPECT_EQ(ParseOrFail({"-delay_write", "8"}).delay_write, absl::Seconds(8));
  EXPECT_EQ(ParseOrFail({"-loop", "epoll", "-loop", "auto"}).loop, std::nullopt);
  EXPECT_EQ(ParseOrFail({"-loop", "io_uring"}).loop, LoopKind::kIoUring);
  EXPECT_EQ(ParseOrFail({"-loop", "epoll"}).loop, LoopKind::kEpoll);
  EXPECT_EQ(ParseOrFail({"-workers", "256"}).workers, 256u);
  EXPECT_EQ(ParseOrFail({"-registry", "a b/registry"}).registry_path, "a b/registry");
  EXPECT_EQ(ParseOrFail({"-capacity", "16777216"}).capacity, kRegistryCapacityMax);
}

TEST(OptionsTest, LastOneCounts) {
  EXPECT_EQ(ParseOrFail({"-port", "1", "-port", "2"}).port, 2);
  EXPECT_THAT(ParseOrFail({"-address", "127.0.0.2", "-address", "127.0.0.3"}).addresses,
              ElementsAre("127.0.0.3", "127.0.0.1", "::1"));
  // An address list that is overridden is not looked at, as with the stock epmd.
  EXPECT_THAT(ParseOrFail({"-address", "nonsense", "-address", ""}).addresses, IsEmpty());
}

TEST(OptionsTest, BoundsOfNumbers) {
  const std::map<std::string, std::vector<const char*>> refused = {
      {"-port", {"0", "65536", "70000", "4294967297"}},
      {"-packet_timeout", {"0", "1000001", "99999999999"}},
      {"-delay_accept", {"0", "3601"}},
      {"-delay_write", {"0", "3601"}},
      {"-workers", {"0", "257", "99999999999999999999"}},
      {"-capacity", {"0", "16777217"}},
  };
  for (const auto& [option, values] : refused) {
    std::vector<const char*> all = values;
    for (const char* value : {"", "-1", "x", "1x", " 1", "1 ", "+1", "0x10", "1.0"}) {
      all.push_back(value);
    }
    for (const char* value : all) {
      SCOPED_TRACE(option + " " + value);
      const std::string error = ErrorOf({option.c_str(), value});
      EXPECT_THAT(error, HasSubstr(option));
      EXPECT_THAT(error, HasSubstr(std::string("'") + value + "'"));
    }
  }
}

TEST(OptionsTest, MissingValues) {
  for (const char* option :
       {"-port", "-address", "-packet_timeout", "-delay_accept", "-delay_write", "-loop",
        "-workers", "-registry", "-capacity", "-stop"}) {
    EXPECT_THAT(ErrorOf({"-d", option}), HasSubstr(option));
  }
}

TEST(OptionsTest, UnknownOptionsAreNamed) {
  for (const char* option : {"-nonsense", "nonsense", "--port", "--daemon", "-h", "-D", "-dd", "-",
                             "", "-relaxed", "-Port"}) {
    const std::string error = ErrorOf({option, "4369"});
    EXPECT_THAT(error, HasSubstr(std::string("'") + option + "'"));
    EXPECT_THAT(error, HasSubstr("epmd -help"));
  }
  EXPECT_THAT(ErrorOf({"-non\nsense\x1b"}), HasSubstr("'-non\\nsense\\x1b'"));
}

TEST(OptionsTest, BadLoopAndRegistry) {
  EXPECT_THAT(ErrorOf({"-loop", "kqueue"}),
              HasSubstr("-loop takes auto, io_uring or epoll, not 'kqueue'"));
  EXPECT_THAT(ErrorOf({"-loop", ""}), HasSubstr("-loop"));
  EXPECT_THAT(ErrorOf({"-registry", ""}), HasSubstr("-registry"));
}

TEST(OptionsTest, AddressesGetLoopback) {
  EXPECT_THAT(ParseOrFail({"-address", "127.0.0.2"}).addresses,
              ElementsAre("127.0.0.2", "127.0.0.1", "::1"));
  EXPECT_THAT(ParseOrFail({"-address", "::1"}).addresses, ElementsAre("::1", "127.0.0.1"));
  EXPECT_THAT(ParseOrFail({"-address", "127.0.0.1,::1"}).addresses,
              ElementsAre("127.0.0.1", "::1"));
}

TEST(OptionsTest, AddressSeparators) {
  for (const char* list : {"10.0.0.1,10.0.0.2", "10.0.0.1 10.0.0.2", " 10.0.0.1, 10.0.0.2,,"}) {
    EXPECT_THAT(ParseOrFail({"-address", list}).addresses,
                ElementsAre("10.0.0.1", "10.0.0.2", "127.0.0.1", "::1"));
  }
  for (const char* list : {"", ",", " , ,"}) {
    EXPECT_THAT(ParseOrFail({"-address", list}).addresses, IsEmpty());
  }
}

TEST(OptionsTest, AddressesAreCanonicalAndUnique) {
  EXPECT_THAT(ParseOrFail({"-address", "0:0:0:0:0:0:0:1,127.0.0.1,127.0.0.1,FE80::1"}).addresses,
              ElementsAre("::1", "127.0.0.1", "fe80::1"));
}

TEST(OptionsTest, AnyAddressStandsForItsFamily) {
  EXPECT_THAT(ParseOrFail({"-address", "0.0.0.0,127.0.0.2"}).addresses,
              ElementsAre("0.0.0.0", "::1"));
  EXPECT_THAT(ParseOrFail({"-address", "fe80::1,::,127.0.0.2"}).addresses,
              ElementsAre("::", "127.0.0.2", "127.0.0.1"));
  EXPECT_THAT(ParseOrFail({"-address", "::,0.0.0.0"}).addresses, ElementsAre("::", "0.0.0.0"));
}

TEST(OptionsTest, BadAddressesAreNamed) {
  for (const char* address :
       {"nonsense", "localhost", "127.0.0", "127.1", "127.0.0.256", "::1::", "127.0.0.1;127.0.0.2",
        "127.0.0.2\t127.0.0.3", "fe80::1%lo", "127.0.0.1:4369", "1.2.3.4/8"}) {
    EXPECT_THAT(ErrorOf({"-address", address}), HasSubstr("-address")) << address;
    const std::string list = std::string("127.0.0.1,") + address;
    EXPECT_THAT(ErrorOf({"-address", list.c_str()}), HasSubstr("-address")) << address;
  }
  EXPECT_THAT(ErrorOf({"-address", "10.0.0.1,nonsense"}), HasSubstr("'nonsense'"));
}

TEST(OptionsTest, NumberOfAddressesIsBounded) {
  std::string list;
  for (size_t i = 0; i < kAddressesMax - 2; ++i) list += "10.0.0." + std::to_string(i) + ",";
  EXPECT_EQ(ParseOrFail({"-address", list.c_str()}).addresses.size(), kAddressesMax);
  list += "10.0.1.0";
  EXPECT_THAT(ErrorOf({"-address", list.c_str()}), HasSubstr("at most"));
}

TEST(OptionsTest, Commands) {
  EXPECT_EQ(ParseOrFail({"-names"}).command, Command::kNames);
  EXPECT_EQ(ParseOrFail({"-started"}).command, Command::kStarted);
  EXPECT_EQ(ParseOrFail({"-dump"}).command, Command::kDump);
  EXPECT_EQ(ParseOrFail({"-kill"}).command, Command::kKill);
  for (const char* name : {"rabbit", "", "-d", "-names"}) {
    const Options options = ParseOrFail({"-d", "-port", "7", "-stop", name});
    EXPECT_EQ(options.command, Command::kStop);
    EXPECT_EQ(options.stop_name, name);
    EXPECT_EQ(options.port, 7);
  }
}

TEST(OptionsTest, CommandComesLast) {
  for (const char* command : {"-names", "-started", "-dump", "-kill", "-check"}) {
    for (const char* after : {"-port", "-names", "-d", "x", ""}) {
      EXPECT_THAT(ErrorOf({command, after}), HasSubstr(command));
    }
  }
  EXPECT_THAT(ErrorOf({"-stop", "a", "b"}), HasSubstr("'b'"));
}

TEST(OptionsTest, HelpAndVersion) {
  for (const char* arg : {"-help", "--help"}) {
    EXPECT_EQ(ParseOrFail({"-d", arg, "nonsense"}).command, Command::kHelp);
  }
  for (const char* arg : {"-version", "--version"}) {
    // A broken environment does not keep anybody from help.
    EXPECT_EQ(ParseOrFail({arg}, {{"ERL_EPMD_PORT", "x"}}).command, Command::kVersion);
  }
  for (const char* option : {"-d",
                             "-debug",
                             "-daemon",
                             "-address",
                             "-port",
                             "-packet_timeout",
                             "-delay_accept",
                             "-delay_write",
                             "-relaxed_command_check",
                             "-names",
                             "-started",
                             "-dump",
                             "-kill",
                             "-stop",
                             "-systemd",
                             "-no_keeper",
                             "-loop",
                             "-workers",
                             "-registry",
                             "-capacity",
                             "-version",
                             "-allow",
                             "-access",
                             "-idle_exit",
                             "-pidfile",
                             "-orphan_grace",
                             "-config",
                             "-check",
                             "-reserve",
                             "-help",
                             "ERL_EPMD_PORT",
                             "ERL_EPMD_ADDRESS",
                             "ERL_EPMD_RELAXED_COMMAND_CHECK"}) {
    EXPECT_THAT(std::string(UsageText()), HasSubstr(option));
  }
  for (const LoopKindRow& row : kLoopKinds) {
    EXPECT_THAT(std::string(UsageText()), HasSubstr(std::string(row.word)));
    EXPECT_EQ(ParseOrFail({"-loop", std::string(row.word).c_str()}).loop, row.kind);
  }
  EXPECT_THAT(std::string(VersionText()), HasSubstr(EVERMAP_VERSION));
}

TEST(OptionsTest, AllowedAndReservedAddUp) {
  EXPECT_THAT(ParseOrFail({}).allowed, IsEmpty());
  const Options options = ParseOrFail({"-allow", "192.0.2.0/24, 2001:db8::/32", "-allow",
                                       "198.51.100.7", "-reserve", "hare=root", "-reserve", "@/x"});
  EXPECT_THAT(options.allowed,
              ElementsAre(*Network::Parse("192.0.2.0/24"), *Network::Parse("2001:db8::/32"),
                          *Network::Parse("198.51.100.7")));
  ASSERT_EQ(options.reservations.size(), 2u);
  EXPECT_EQ(options.reservations[0].text, "hare=root");
  EXPECT_EQ(options.reservations[1].text, "@/x");
}

TEST(OptionsTest, BadAllow) {
  for (const char* value :
       {"", ",", "nonsense", "192.0.2.0/33", "192.0.2.1/24", "192.0.2.0/24,x"}) {
    EXPECT_THAT(ErrorOf({"-allow", value}), HasSubstr("-allow")) << value;
  }
  std::string many;
  for (size_t i = 0; i <= kOriginsMax; ++i) many += "192.0.2.1,";
  EXPECT_THAT(ErrorOf({"-allow", many.c_str()}), HasSubstr("256"));
}

TEST(OptionsTest, PortFromEnvironment) {
  EXPECT_EQ(ParseOrFail({}, {{"ERL_EPMD_PORT", "4711"}}).port, 4711);
  EXPECT_EQ(ParseOrFail({"-names"}, {{"ERL_EPMD_PORT", "4711"}}).port, 4711);
  EXPECT_EQ(ParseOrFail({}, {{"ERL_EPMD_PORT", ""}}).port, 4369);
  EXPECT_EQ(ParseOrFail({"-port", "5"}, {{"ERL_EPMD_PORT", "4711"}}).port, 5);
  EXPECT_EQ(ParseOrFail({"-port", "5"}, {{"ERL_EPMD_PORT", "nonsense"}}).port, 5);
  for (const char* value : {"abc", "0", "70000", "-1", " ", "0x37", "tcp://10.0.0.1:4369"}) {
    EXPECT_THAT(ErrorOf({}, {{"ERL_EPMD_PORT", value}}), HasSubstr("ERL_EPMD_PORT")) << value;
  }
}

// As the stock epmd, which calls atoi(3), but not without saying so.
TEST(OptionsTest, PortFromEnvironmentAsAtoi) {
  for (const char* value : {" 4711", "4711 ", "4711x", "\t4711\n", "+4711", "4711.5"}) {
    const Options options = ParseOrFail({}, {{"ERL_EPMD_PORT", value}});
    EXPECT_EQ(options.port, 4711) << value;
    EXPECT_THAT(options.warnings, ElementsAre(HasSubstr("ERL_EPMD_PORT"))) << value;
  }
  EXPECT_THAT(ParseOrFail({}, {{"ERL_EPMD_PORT", "04711"}}).warnings, IsEmpty());
  EXPECT_THAT(ParseOrFail({"-port", "5"}, {{"ERL_EPMD_PORT", "4711x"}}).warnings, IsEmpty());
}

TEST(OptionsTest, AddressFromEnvironment) {
  EXPECT_THAT(ParseOrFail({}, {{"ERL_EPMD_ADDRESS", "127.0.0.4"}}).addresses,
              ElementsAre("127.0.0.4", "127.0.0.1", "::1"));
  EXPECT_THAT(ParseOrFail({}, {{"ERL_EPMD_ADDRESS", ""}}).addresses, IsEmpty());
  EXPECT_THAT(ParseOrFail({"-address", "127.0.0.2"}, {{"ERL_EPMD_ADDRESS", "nonsense"}}).addresses,
              ElementsAre("127.0.0.2", "127.0.0.1", "::1"));
  EXPECT_THAT(ErrorOf({}, {{"ERL_EPMD_ADDRESS", "nonsense"}}), HasSubstr("ERL_EPMD_ADDRESS"));
  // A command needs no address to listen on.
  EXPECT_EQ(ErrorOf({"-names"}, {{"ERL_EPMD_ADDRESS", "nonsense"}}), "");
}

TEST(OptionsTest, RelaxedCommandCheckFromEnvironment) {
  // Set is enough, to whatever value, as with the stock epmd.
  for (const char* value : {"", "0", "false", "true"}) {
    EXPECT_TRUE(ParseOrFail({}, {{"ERL_EPMD_RELAXED_COMMAND_CHECK", value}}).relaxed_command_check);
  }
}

}  // namespace
}  // namespace evermap
