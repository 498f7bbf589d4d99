// fpdist_generate: completions of prompts that share prefixes.
//   fpdist_generate --model.path DIR --prompts FILE.jsonl --output FILE.jsonl [--rollout.num_generations 8 ...]

#include <iostream>

#include "fpdist/core/error.hpp"
#include "src/main/generate/generate_file.hpp"
#include "src/main/generate/generate_request.hpp"
#include "src/main/program.hpp"

int main(int argc, char** argv) {
  using namespace fpdist::main_program;
  prepare_environment();
  return run([&] {
    const GenerateRequest request = parse_generate_request({argv + 1, argv + argc});
    if (request.version) return void(std::cout << version_text());
    if (request.help) return void(std::cout << generate_help());
    fpdist::check<fpdist::ConfigError>(launched_size() == 1,
                                       "fpdist_generate is one process: start it without mpirun (", launched_size(),
                                       " were started)");
    ConsoleLog console;
    generate_file(request, console);
  });
}
