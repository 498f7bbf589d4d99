#pragma once
// core: which builds this process is made of, so that ranks of other builds are told apart.

#include <string>
#include <vector>

namespace fpdist {

/// A program or library as the linker marked it (NT_GNU_BUILD_ID, a hash of all that was linked).
struct Build {
  std::string name;  ///< the file's, without its folder
  std::string id;    ///< hexadecimal; "" where the linker left no mark
};

/// The program itself, then every library of this project and of torch that is loaded, by name.
std::vector<Build> loaded_builds();

}  // namespace fpdist
