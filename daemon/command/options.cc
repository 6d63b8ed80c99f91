#include "daemon/command/options.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "registry/activity.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

constexpr char kConfigOption[] = "-config";
constexpr char kTrue[] = "true";
// Of kStartedWithVariable: a setting a line, its fields being name, value and place. Values of files
// have no control characters.
constexpr char kLineEnd = '\n';
constexpr char kFieldEnd = '\t';

// Goes through the arguments from left to right. What they say of settings is gathered, and is
// applied by the caller.
class ArgumentParser {
 public:
  ArgumentParser(absl::Span<const char* const> args, Options& options)
      : args_(args), options_(options) {}

  absl::Status Parse() {
    while (!args_.empty() && !asked_to_tell_) {
      if (absl::Status status = ParseOne(Take()); !status.ok()) return status;
    }
    if (debug_level_ > 0) {
      Give(*SettingOf(kDebugName), absl::StrCat(std::min(debug_level_, kDebugMax)));
    }
    return absl::OkStatus();
  }

  const std::vector<GivenSetting>& given() const { return given_; }

 private:
  std::string_view Take() {
    const std::string_view arg = args_.front();
    args_.remove_prefix(1);
    return arg;
  }

  void Give(const Setting& setting, std::string_view text) {
    // Of what is no list the last one counts, and those before it are not looked at, as with the
    // stock epmd.
    if (!setting.is_list) {
      std::erase_if(given_, [&](const GivenSetting& one) { return one.setting == &setting; });
    }
    given_.push_back({&setting, std::string(text), Origin::kOption, setting.option()});
  }

  absl::Status ParseOne(std::string_view arg) {
    if (ParseFlag(arg)) return absl::OkStatus();
    if (const std::optional<Command> command = ToCommand(arg); command.has_value()) {
      return ParseCommand(arg, *command);
    }
    const Setting* const setting =
        arg.starts_with('-') ? SettingOf(arg.substr(1)) : static_cast<const Setting*>(nullptr);
    if (setting == nullptr && arg != kConfigOption) {
      return absl::InvalidArgumentError(
          absl::StrFormat("unknown option %s; see epmd -help", Quote(arg)));
    }
    if (setting != nullptr && setting->is_flag()) {
      Give(*setting, kTrue);
      return absl::OkStatus();
    }
    if (args_.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat("%s needs a value; see epmd -help", arg));
    }
    if (setting != nullptr) {
      Give(*setting, Take());
      return absl::OkStatus();
    }
    options_.config_path = std::string(Take());
    options_.is_config_named = true;
    return options_.config_path.empty()
               ? absl::InvalidArgumentError("-config takes the path of a file, or none")
               : absl::OkStatus();
  }

  bool ParseFlag(std::string_view arg) {
    if (arg == "-d" || arg == "-debug") {
      ++debug_level_;
    } else if (arg == "-daemon") {
      options_.daemon = true;
    } else if (arg == "-systemd") {
      options_.systemd = true;
    } else if (arg == "-help" || arg == "--help") {
      options_.command = Command::kHelp;
      asked_to_tell_ = true;
    } else if (arg == "-version" || arg == "--version") {
      options_.command = Command::kVersion;
      asked_to_tell_ = true;
    } else {
      return false;
    }
    return true;
  }

  static std::optional<Command> ToCommand(std::string_view arg) {
    if (arg == "-names") return Command::kNames;
    if (arg == "-started") return Command::kStarted;
    if (arg == "-dump") return Command::kDump;
    if (arg == "-kill") return Command::kKill;
    if (arg == "-stop") return Command::kStop;
    if (arg == "-check") return Command::kCheck;
    return std::nullopt;
  }

  absl::Status ParseCommand(std::string_view arg, Command command) {
    options_.command = command;
    if (command == Command::kStop) {
      if (args_.empty()) {
        return absl::InvalidArgumentError("-stop needs the name of a node; see epmd -help");
      }
      options_.stop_name = std::string(Take());
    }
    if (!args_.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s after %s: the command comes last; see epmd -help", Quote(args_.front()), arg));
    }
    return absl::OkStatus();
  }

  absl::Span<const char* const> args_;
  Options& options_;
  bool asked_to_tell_ = false;  // -help or -version was given: what follows does not matter
  uint32_t debug_level_ = 0;
  std::vector<GivenSetting> given_;
};

// What the environment says of a setting; a place that is empty: nothing.
GivenSetting OfEnvironment(const Setting& setting,
                           absl::FunctionRef<const char*(const char*)> environment) {
  const std::string variable = setting.variable();
  const char* const value = environment(variable.c_str());
  if (value == nullptr) return {};
  GivenSetting given = {&setting, value, Origin::kEnvironment, variable};
  if (setting.name == kRelaxedName) {
    given.text = kTrue;
  } else if (given.text.empty()) {
    return {};
  }
  return given;
}

// Makes of a port what atoi(3) makes of it, which the stock epmd calls: scripts rely on it.
void TakePortAsAtoi(GivenSetting& given, Options& options) {
  const std::string_view number = NumberAsAtoi(given.text);
  if (number.empty() || number == given.text) return;
  options.warnings.push_back(absl::StrFormat("%s is %s, of which the number %s counts", given.place,
                                             Quote(given.text), std::string(number)));
  given.text = std::string(number);
}

// Applies what is said of the settings, and notes it.
class Layers {
 public:
  Layers(absl::Span<const GivenSetting> of_arguments,
         absl::FunctionRef<const char*(const char*)> environment,
         absl::Span<const GivenSetting> of_files, Options& options)
      : of_arguments_(of_arguments),
        environment_(environment),
        of_files_(of_files),
        options_(options) {}

  absl::Status Apply() {
    for (const Setting& setting : Settings()) {
      std::vector<GivenSetting> given = Of(setting);
      for (const GivenSetting& one : given) {
        if (!Counts(one)) continue;
        if (absl::Status status = setting.apply(setting, one.Source(), one.text, options_);
            !status.ok()) {
          return status;
        }
      }
      if (given.empty()) {
        given.push_back({&setting, std::string(setting.default_text), Origin::kDefault, ""});
      }
      std::move(given.begin(), given.end(), std::back_inserter(options_.given));
    }
    return absl::OkStatus();
  }

 private:
  // What is said of a setting in the first place that says something.
  std::vector<GivenSetting> Of(const Setting& setting) {
    std::vector<GivenSetting> of_files = Select(of_files_, setting);
    std::vector<GivenSetting> given = Select(of_arguments_, setting);
    GivenSetting of_environment = OfEnvironment(setting, environment_);
    if (given.empty() && !of_environment.place.empty()) {
      if (setting.name == kPortName) TakePortAsAtoi(of_environment, options_);
      given.push_back(std::move(of_environment));
    }
    if (given.empty()) return of_files;
    SayHidden(of_files, given);
    return given;
  }

  // A line of a file that has no effect must not be thought to have one.
  void SayHidden(absl::Span<const GivenSetting> of_files, absl::Span<const GivenSetting> given) {
    if (options_.command != Command::kServe && options_.command != Command::kCheck) return;
    for (const GivenSetting& hidden : of_files) {
      const bool is_said =
          std::any_of(given.begin(), given.end(),
                      [&hidden](const GivenSetting& one) { return one.text == hidden.text; });
      if (is_said) continue;
      options_.warnings.push_back(absl::StrCat(hidden.Source(), " = ", hidden.text,
                                               " has no effect: ", given[0].place,
                                               " goes before the file"));
    }
  }

  static std::vector<GivenSetting> Select(absl::Span<const GivenSetting> from,
                                          const Setting& setting) {
    std::vector<GivenSetting> selected;
    for (const GivenSetting& given : from) {
      if (given.setting == &setting) selected.push_back(given);
    }
    return selected;
  }

  // A command asks the mapper of a port: it needs nothing else, and works also where the rest makes
  // no sense. What its own command line says it is told whether it makes sense, but for addresses.
  bool Counts(const GivenSetting& given) const {
    if (options_.command == Command::kServe || options_.command == Command::kCheck) return true;
    if (given.setting->name == kAddressName) return false;
    return given.origin == Origin::kOption || given.setting->name == kPortName;
  }

  const absl::Span<const GivenSetting> of_arguments_;
  const absl::FunctionRef<const char*(const char*)> environment_;
  const absl::Span<const GivenSetting> of_files_;
  Options& options_;
};

// The next part of `text`, which ends before `end`; both are taken off.
std::string_view TakePart(std::string_view& text, char end) {
  const std::string_view part = text.substr(0, text.find(end));
  text.remove_prefix(std::min(part.size() + 1, text.size()));
  return part;
}

// Puts what files said at the start in the place of what they say now.
void TakeStartedWith(std::string_view text, std::vector<GivenSetting>& settings) {
  std::erase_if(settings,
                [](const GivenSetting& given) { return given.setting->effect == Effect::kStart; });
  while (!text.empty()) {
    std::string_view line = TakePart(text, kLineEnd);
    const Setting* const setting = SettingOf(TakePart(line, kFieldEnd));
    const std::string_view value = TakePart(line, kFieldEnd);
    // A later release may have settings that this one does not know.
    if (setting == nullptr) continue;
    settings.push_back({setting, std::string(value), Origin::kFile, std::string(line)});
  }
}

}  // namespace

absl::StatusOr<Options> ParseOptions(absl::Span<const char* const> args,
                                     absl::FunctionRef<const char*(const char*)> environment,
                                     absl::Span<const GivenSetting> from_files) {
  Options options;
  ArgumentParser parser(args, options);
  if (absl::Status status = parser.Parse(); !status.ok()) return status;
  if (options.command == Command::kHelp || options.command == Command::kVersion) return options;
  const char* const config = environment(kConfigVariable);
  if (!options.is_config_named && config != nullptr && *config != '\0') {
    options.config_path = config;
    options.is_config_named = true;
  }
  Layers layers(parser.given(), environment, from_files, options);
  if (absl::Status status = layers.Apply(); !status.ok()) return status;
  return options;
}

absl::StatusOr<Options> ReadOptions(absl::Span<const char* const> args,
                                    absl::FunctionRef<const char*(const char*)> environment) {
  absl::StatusOr<Options> options = ParseOptions(args, environment);
  if (!options.ok() || options->command == Command::kHelp ||
      options->command == Command::kVersion || options->config_path == kNoConfig) {
    return options;
  }
  SettingsFiles files = ReadSettingsFiles(options->config_path, options->is_config_named);
  const char* const started_with = environment(kStartedWithVariable);
  if (options->command == Command::kServe && started_with != nullptr) {
    TakeStartedWith(started_with, files.settings);
  }
  options = ParseOptions(args, environment, files.settings);
  if (!options.ok()) {
    // Right by themselves, and not together with what was said elsewhere: a mistake in the files like
    // any other, with which a mapper that has nodes of an earlier one goes on.
    files.problems.emplace_back(options.status().message());
    std::erase_if(files.settings, [](const GivenSetting& given) {
      return given.setting->effect != Effect::kStart;
    });
    options = ParseOptions(args, environment, files.settings);
  }
  if (options.ok()) options->files = std::move(files);
  return options;
}

std::string StartedWith(const Options& options) {
  std::string text;
  for (const GivenSetting& given : options.given) {
    if (given.origin != Origin::kFile || given.setting->effect != Effect::kStart) continue;
    text += given.setting->name;
    text += kFieldEnd + given.text + kFieldEnd + given.place + kLineEnd;
  }
  return text;
}

}  // namespace evermap
