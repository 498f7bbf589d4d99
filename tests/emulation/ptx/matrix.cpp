// ldmatrix and mma.sync: a warp's tiles. Lane l has g = l / 4 and t = l % 4; a 32-bit register holds two 16-bit
// elements, the lower column in the lower half.
#include "tests/emulation/ptx/decode.hpp"
#include "tests/emulation/ptx/float16.hpp"
#include "tests/emulation/ptx/tiles.hpp"

namespace fpdist::ptx {
namespace {

/// to: a register a matrix, a: addresses of rows, n: matrices, m: transposed. Matrix m's rows are addressed by lanes 8m
/// to 8m + 7; lane l gets row g, columns 2t and 2t + 1, transposed: column g, rows 2t and 2t + 1.
void load_matrices(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  need_32_lanes(warp, op);
  const uint8_t* const shared = warp.block->shared.bytes.data();
  const int rows = op.n * 8;
  uint32_t address[32], loaded[4][32];
  for (int lane = 0; lane < rows; ++lane) {
    address[lane] = warp.r(op.a)[lane] + static_cast<uint32_t>(op.offset);
    read_shared(warp, op, address[lane], 16, lane);
  }
  count_shared(warp, address, rows == 32 ? ~0u : (1u << rows) - 1, 16);
  ++warp.block->counters->matrix_loads;
  for (int matrix = 0; matrix < op.n; ++matrix)
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const uint32_t* const row = address + matrix * 8;
      if (op.m) {
        uint16_t low, high;
        std::memcpy(&low, shared + row[2 * t] + 2 * g, 2), std::memcpy(&high, shared + row[2 * t + 1] + 2 * g, 2);
        loaded[matrix][lane] = low | static_cast<uint32_t>(high) << 16;
      } else {
        std::memcpy(&loaded[matrix][lane], shared + row[g] + 4 * t, 4);
      }
    }
  for (int matrix = 0; matrix < op.n; ++matrix)
    std::memcpy(warp.r(op.to[static_cast<size_t>(matrix)]), loaded[matrix], sizeof loaded[matrix]);
}

/// to = from x from_b + in, of 16 x 8 x 16; the fourth list's registers begin at op.in.
template <Expand expand>
void multiply(Warp& warp, const Op& op) {
  if (!all_lanes_here(warp, op)) return;
  need_32_lanes(warp, op);
  alignas(64) float a[16][16], b[16][8], c[16][8];
  read_a_tile<expand>(warp, op.from, a);
  for (size_t q = 0; q < 2; ++q)
    for (int lane = 0; lane < 32; ++lane) {
      const uint32_t pair = warp.r(op.from_b[q])[lane];
      const size_t k = static_cast<size_t>(lane % 4) * 2 + q * 8, n = static_cast<size_t>(lane / 4);
      b[k][n] = expand(pair & 0xffff), b[k + 1][n] = expand(pair >> 16);
    }
  const auto each = [&](const std::vector<Register>& list, auto body) {
    for (size_t q = 0; q < 4; ++q)
      for (size_t lane = 0; lane < 32; ++lane)
        body(warp.lanes<float>(list[q])[lane], c[lane / 4 + 8 * (q >> 1)][lane % 4 * 2 + (q & 1)]);
  };
  each(op.from_c, [](float& reg, float& place) { place = reg; });
  multiply_tile<8>(a, b, c);
  each(op.to, [](float& reg, float& place) { reg = place; });
  ++warp.block->counters->mma;
  warp.block->counters->tensor_flop += 2 * 16 * 8 * 16;
}

}  // namespace

void need_32_lanes(const Warp& warp, const Op& op) {
  if (warp.exec != ~0u) fail(warp, op, "needs all 32 lanes");
}

bool decode_matrix(Decoder& decoder, const Instruction& instruction, Op& op) {
  static const std::map<std::string, std::pair<int, int>> kLoads = {
      {"ldmatrix.sync.aligned.m8n8.x1.shared.b16", {1, 0}}, {"ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16", {1, 1}},
      {"ldmatrix.sync.aligned.m8n8.x2.shared.b16", {2, 0}}, {"ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16", {2, 1}},
      {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", {4, 0}}, {"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", {4, 1}}};
  const std::vector<std::string>& operand = instruction.operand;
  if (const auto load = kLoads.find(instruction.name); load != kLoads.end() && operand.size() == 2) {
    op.n = load->second.first, op.m = load->second.second, op.run = load_matrices;
    op.to = decoder.write_list(op, operand[0], Width::k32), op.a = decoder.read_address(op, operand[1], Width::k32);
    return op.to.size() == static_cast<size_t>(op.n);
  }
  const std::string mma = "mma.sync.aligned.m16n8k16.row.col.f32.";
  if (instruction.name == mma + "bf16.bf16.f32") op.run = multiply<from_bfloat16>;
  if (instruction.name == mma + "f16.f16.f32") op.run = multiply<from_float16>;
  if (op.run == nullptr || operand.size() != 4) return false;
  op.from = decoder.read_list(op, operand[1], Width::k32), op.from_b = decoder.read_list(op, operand[2], Width::k32);
  op.from_c = decoder.read_list(op, operand[3], Width::k32), op.to = decoder.write_list(op, operand[0], Width::k32);
  return op.from.size() == 4 && op.from_b.size() == 2 && op.from_c.size() == 4 && op.to.size() == 4;
}

}  // namespace fpdist::ptx
