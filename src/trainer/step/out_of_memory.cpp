#include "src/trainer/step/out_of_memory.hpp"

#include <algorithm>
#include <cstdlib>

#include "fpdist/core/error.hpp"
#include "src/core/index.hpp"
#include "src/core/words.hpp"

namespace fpdist::trainer {
namespace {

constexpr int64_t kRound = 64;
constexpr double kUsable = 0.95;  // of the device: fragments and what libraries take for themselves are the rest

}  // namespace

int64_t requested_bytes(const std::string& message) {
  const std::string words = "Tried to allocate ";
  const size_t at = message.find(words);
  if (at == std::string::npos) return 0;
  char* unit = nullptr;
  const double number = std::strtod(message.c_str() + at + words.size(), &unit);
  double factor = 1;
  for (const char* name : {" KiB", " MiB", " GiB"}) {
    factor *= 1024;
    if (std::string(unit).rfind(name, 0) == 0) return static_cast<int64_t>(number * factor);
  }
  return static_cast<int64_t>(number);
}

int64_t fitting_max_tokens(int64_t rows, int64_t before, int64_t wanted, int64_t capacity) {
  const double room = kUsable * static_cast<double>(capacity) - static_cast<double>(before);
  const double need = static_cast<double>(std::max<int64_t>(wanted - before, 1));
  const auto fits = static_cast<int64_t>(std::min(1.0, std::max(0.0, room / need)) * static_cast<double>(rows));
  const int64_t less = std::min(fits, rows - 1);
  return less < kRound * 10 ? less : less / kRound * kRound;
}

void throw_out_of_memory(const std::string& message, const std::string& position, const comm::MemoryUse& before,
                         const plan::StepPlan& plan, const Job& job) {
  const comm::MemoryUse now = job.device->memory();
  const int64_t requested = requested_bytes(message);
  int64_t rows = 1;
  for (const plan::PackPlan& pack : plan.replica.at(index(job.mesh.at().dp))) rows = std::max<int64_t>(rows, pack.rows);
  const int64_t fits = fitting_max_tokens(rows, before.bytes, now.bytes + requested, now.capacity);
  std::string what = text(position, ", rank ", job.world.rank(), ": the device is out of memory: ", gib_text(requested),
                          " wanted, ", gib_text(now.bytes), " of ", gib_text(now.capacity), " in use, ",
                          gib_text(before.bytes), " of it before the step: ");
  if (fits > 0)
    what += text("pack.max_tokens: ", fits, " in place of ", job.config.pack.max_tokens,
                 " would fit (the step's largest pack here has ", rows, " rows)");
  else
    what += "no pack.max_tokens would fit: hold the weights on more ranks (parallel.tp, parallel.pp)";
  if (!job.config.model.gradient_checkpointing) what += ", or set model.gradient_checkpointing: true";
  throw OutOfMemoryError(what);
}

}  // namespace fpdist::trainer
