#include "daemon/command/settings.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/command/options.h"
#include "daemon/command/parse_for_test.h"
#include "daemon/command/settings_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace evermap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A value that each setting takes, and some that it does not.
struct Sample {
  std::string good;
  std::vector<std::string> bad;
};
const std::map<std::string, Sample>& Samples() {
  static const std::map<std::string, Sample> kSamples = {
      {"port", {"4711", {"0", "65536", "x"}}},
      {"address", {"127.0.0.2", {"localhost", "127.0.0.1;::1"}}},
      {"allow", {"192.0.2.0/24", {"192.0.2.1/24", "x", ","}}},
      {"access",
       {"list from host",
        {"list", "from host", "list from", "lists from host", "list from hosts",
         "register from all", "register from 10.0.0.0/8", "register:a from host",
         "register: from user:a", "register:a@b from user:a", "list from none host",
         "list from user:", "list from host;"}}},
      {"reserve", {"hare=root", {"hare", "=root", "hare=", "hare@host=root"}}},
      {"relaxed_command_check", {"true", {"yes", "1", "TRUE"}}},
      {"packet_timeout", {"5", {"0", "1000001", "-1"}}},
      {"orphan_grace", {"6", {"0", "86401"}}},
      {"name_wait", {"4", {"0", "61"}}},
      {"idle_exit", {"7", {"0", "2592001"}}},
      {"delay_accept", {"8", {"0", "3601"}}},
      {"delay_write", {"9", {"0", "3601"}}},
      {"debug", {"2", {"4", "-1", "d"}}},
      {"loop", {"epoll", {"kqueue", "EPOLL"}}},
      {"workers", {"3", {"0", "257"}}},
      {"no_keeper", {"true", {"no", "0"}}},
      {"pidfile", {"/run/epmd.pid", {}}},
      {"registry", {"/dev/shm/registry", {}}},
      {"capacity", {"1000", {"0", "16777217"}}},
      {"expect", {"hare, fox", {"hare@host", std::string(1021, 'h'), ","}}},
  };
  return kSamples;
}

// What is given for a setting.
std::vector<GivenSetting> GivenFor(const Options& options, const Setting& setting) {
  std::vector<GivenSetting> given;
  for (const GivenSetting& one : options.given) {
    if (one.setting == &setting) given.push_back(one);
  }
  return given;
}

void ExpectGiven(const Options& options, const Setting& setting, const std::string& text,
                 Origin origin, const std::string& place) {
  const std::vector<GivenSetting> given = GivenFor(options, setting);
  ASSERT_EQ(given.size(), 1u) << setting.name;
  EXPECT_EQ(given[0].text, text) << setting.name;
  EXPECT_EQ(given[0].origin, origin) << setting.name;
  EXPECT_EQ(given[0].place, place) << setting.name;
}

std::vector<GivenSetting> InFile(const std::string& line) {
  SettingsFiles files;
  ParseSettings("/etc/epmd.conf", line, files);
  EXPECT_THAT(files.problems, IsEmpty());
  return files.settings;
}

// The option, with its value if it has one.
std::vector<const char*> AsOption(const Setting& setting, const std::string& option,
                                  const std::string& value) {
  if (setting.name == "debug") return {"-d", "-d"};
  if (setting.is_flag()) return {option.c_str()};
  return {option.c_str(), value.c_str()};
}

TEST(SettingsTest, EachInAllThreePlacesInOrder) {
  ASSERT_EQ(Samples().size(), Settings().size());
  for (const Setting& setting : Settings()) {
    SCOPED_TRACE(setting.name);
    const std::string name(setting.name);
    const std::string good = Samples().at(name).good;
    const std::string option = setting.option();
    const std::vector<GivenSetting> in_file = InFile(absl::StrCat(name, " = ", good));
    const Environment environment = {{setting.variable(), good}};
    ExpectGiven(ParseOrFail({}), setting, std::string(setting.default_text), Origin::kDefault, "");
    const auto parse = [&](const std::vector<const char*>& args, const Environment& variables) {
      const auto parsed = ParseOptions(
          args,
          [&](const char* variable) -> const char* {
            const auto found = variables.find(variable);
            return found == variables.end() ? nullptr : found->second.c_str();
          },
          in_file);
      EXPECT_TRUE(parsed.ok()) << parsed.status();
      return parsed.ok() ? *parsed : Options();
    };
    ExpectGiven(parse({}, {}), setting, good, Origin::kFile, "/etc/epmd.conf:1");
    ExpectGiven(parse({}, environment), setting, good, Origin::kEnvironment, setting.variable());
    ExpectGiven(parse(AsOption(setting, option, good), environment), setting, good, Origin::kOption,
                option);
  }
}

TEST(SettingsTest, BadValuesInAllThreePlaces) {
  for (const Setting& setting : Settings()) {
    const std::string name(setting.name);
    for (const std::string& bad : Samples().at(name).bad) {
      SCOPED_TRACE(absl::StrCat(name, " = ", bad));
      SettingsFiles files;
      ParseSettings("/f", absl::StrCat("\n", name, " = ", bad, "\n"), files);
      EXPECT_THAT(files.problems, ElementsAre(HasSubstr("/f:2: " + name)));
      EXPECT_THAT(files.settings, IsEmpty());
      if (name != "relaxed_command_check") {
        EXPECT_THAT(ErrorOf({}, {{setting.variable(), bad}}), HasSubstr(setting.variable()));
      }
      if (setting.is_flag() || name == "debug") continue;
      const std::string option = setting.option();
      EXPECT_THAT(ErrorOf({option.c_str(), bad.c_str()}), HasSubstr(option));
    }
    SettingsFiles files;
    ParseSettings("/f", name + " =", files);
    EXPECT_EQ(files.problems.empty(), setting.is_list) << name;
  }
}

TEST(SettingsTest, WhatCountsAtTheStartIsPassedOn) {
  std::string path = ::testing::TempDir() + "options_test.XXXXXX";
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  close(fd);
  const auto read = [&path](const std::string& text, const char* started_with) {
    std::ofstream(path) << text;
    const auto options =
        ReadOptions({"-config", path.c_str()}, [&](const char* name) -> const char* {
          return std::string_view(name) == kStartedWithVariable ? started_with : nullptr;
        });
    EXPECT_TRUE(options.ok()) << options.status();
    return options.ok() ? *options : Options();
  };
  const Options first = read("workers = 2\nregistry = /first\nport = 7\n", nullptr);
  const std::string started_with = StartedWith(first);
  const Options next = read("workers = 3\nregistry = /next\npidfile = /p\n", started_with.c_str());
  EXPECT_EQ(next.workers, 3u);
  EXPECT_EQ(next.registry_path, "/first");
  EXPECT_EQ(next.port, 7);
  EXPECT_EQ(next.pid_file, "");
  ExpectGiven(next, *SettingOf("registry"), "/first", Origin::kFile, path + ":2");
  EXPECT_EQ(StartedWith(next), started_with);
  // Also that nothing was said.
  EXPECT_EQ(read("registry = /next\n", "").registry_path, "");
  unlink(path.c_str());
}

TEST(SettingsTest, LinesThatAreNoSettings) {
  const std::map<std::string, std::string> lines = {
      {"prot = 1", "unknown setting 'prot'"},
      {"Port = 1", "unknown setting 'Port'"},
      {"= 1", "unknown setting ''"},
      {"port", "is not NAME = VALUE"},
      {"daemon = true", "unknown setting 'daemon'"},
      {"port = 1 # one", "port takes a number"},
      {"pidfile = /run/\x1b[31m", "control characters"},
      {"port = 1\nport = 1", "/f:2: port is said twice"},
      {"registry = a/b", "/f:1: registry needs a whole path"},
  };
  for (const auto& [text, problem] : lines) {
    SettingsFiles files;
    ParseSettings("/f", text, files);
    EXPECT_THAT(files.problems, ElementsAre(HasSubstr(problem))) << text;
  }
  SettingsFiles files;
  ParseSettings("/f", "# comment\n\n  \t\r\n\tport=7\r\nregistry = /a b\tc\n", files);
  EXPECT_THAT(files.problems, IsEmpty());
  ASSERT_EQ(files.settings.size(), 2u);
  EXPECT_EQ(files.settings[0].text, "7");
  EXPECT_EQ(files.settings[1].text, "/a b c");
}

TEST(SettingsTest, LaterFilesReplaceValuesAndAddToLists) {
  SettingsFiles files;
  ParseSettings("/a", "port = 1\nallow = 192.0.2.0/24\naccess = list from host\n", files);
  ParseSettings("/b", "port = 2\nallow = 198.51.100.0/24\naccess =\naccess = dump from none\n",
                files);
  EXPECT_THAT(files.problems, IsEmpty());
  const auto options = ParseOptions(
      {}, [](const char*) { return nullptr; }, files.settings);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->port, 2);
  EXPECT_EQ(options->allowed.size(), 2u);
  ASSERT_EQ(options->access.size(), 1u);
  EXPECT_THAT(options->access[0].rights, ElementsAre(Right::kDump));
  // A list that is said further up replaces all of it.
  const auto above = ParseOptions(
      std::vector<const char*>{"-allow", "203.0.113.0/24"}, [](const char*) { return nullptr; },
      files.settings);
  ASSERT_TRUE(above.ok());
  EXPECT_EQ(above->allowed.size(), 1u);
}

TEST(SettingsTest, ListsAreBoundedOverAllFiles) {
  std::string half;
  for (size_t i = 0; i < kOriginsMax / 2; ++i) half += "192.0.2.1,";
  SettingsFiles files;
  ParseSettings("/a", "allow = " + half, files);
  ParseSettings("/b", "access = list from " + half, files);
  EXPECT_THAT(files.problems, IsEmpty());
  ParseSettings("/c", "access = dump from user:root", files);
  EXPECT_THAT(files.problems, ElementsAre(HasSubstr("/c:1: access")));
}

TEST(SettingsTest, ADirectoryHasNoMoreFilesThanMayBeRead) {
  char root[40] = "/tmp/evermap-settings-XXXXXX";
  ASSERT_NE(mkdtemp(root), nullptr);
  const std::string path = absl::StrCat(root, "/epmd.conf");
  const std::string directory = path + ".d";
  ASSERT_TRUE(std::filesystem::create_directory(directory));
  for (size_t i = 0; i <= kSettingsFilesMax; ++i) {
    std::ofstream(absl::StrCat(directory, "/", i, ".conf")) << "port = 1\n";
  }
  EXPECT_THAT(ReadSettingsFiles(path, false).problems,
              testing::Contains(HasSubstr("has more than")));
  std::filesystem::remove_all(directory);
  std::ofstream(directory.c_str()) << "no directory";
  EXPECT_THAT(ReadSettingsFiles(path, false).problems,
              ElementsAre(HasSubstr("cannot be read: Not a directory")));
  EXPECT_THAT(ReadSettingsFiles(absl::StrCat("/", std::string(300, 'x')), false).problems,
              testing::Contains(HasSubstr("cannot be read")));
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace evermap
