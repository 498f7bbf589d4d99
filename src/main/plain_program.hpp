#pragma once
// main: what programs without torch and MPI share.

#include <functional>
#include <iostream>
#include <string>

#include "fpdist/core/error.hpp"
#include "src/core/version.hpp"

namespace fpdist::main_program {

/// For --version of programs that have neither torch nor MPI.
inline std::string plain_version_text() { return text(version(), ", commit ", commit(), "\n"); }

/// Runs `body`, prints what it throws and returns the exit code.
inline int run_alone(const std::function<void()>& body) {
  try {
    body();
    return 0;
  } catch (const Error& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return static_cast<int>(error.exit_code());
  } catch (const std::exception& error) {
    std::cerr << "internal error: " << error.what() << std::endl;
    return static_cast<int>(ExitCode::kUsage);
  }
}

}  // namespace fpdist::main_program
