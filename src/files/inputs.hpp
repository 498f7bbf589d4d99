#pragma once
// files: what must not be written over. Files are known by what they are, not by what they are called: links, other
// spellings of a path, mounts and second names (hard links) of a file are that file.

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace fpdist::files {

/// Files that somebody reads.
class Inputs {
 public:
  /// `what` reads it, for messages: "data.path". Nothing where there is no such file: whoever reads it says so.
  void add(std::string_view what, const std::string& path);
  /// Every file in `folder`, not those below it.
  void add_folder(std::string_view what, const std::string& folder);

  /// "data.path rows.jsonl" where `path` is one of them; "" where it is none, or nothing at all.
  std::string at(const std::string& path) const;
  /// Throws ConfigError, naming both and `cure`, where `path` is one of them.
  void check_spared(const std::string& path, std::string_view cure) const;

 private:
  /// A file of this machine.
  struct Identity {
    uint64_t device = 0, inode = 0;
    auto operator<=>(const Identity&) const = default;
  };
  static bool identify(const std::string& path, Identity& identity);
  std::map<Identity, std::string> name_;
};

}  // namespace fpdist::files
