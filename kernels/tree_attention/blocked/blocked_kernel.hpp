#pragma once
// tree_attention, blocked: attention in tiles of a block of rows and a panel of keys, on vector instructions that the
// build does not take for granted. One product serves all six of them (product.hpp). Addresses and numbers, no torch:
// each instruction set has a source of its own (blocked_kernel_<set>.cpp), compiled for it, and nothing of those may be
// shared with code for other processors, so they use no library either.
//
// A row is a (query, head) pair of one key head: row r of key head h is query r / group, head h * group + r % group.
// Grouped heads so share what is packed of their keys, and a block of rows spans few queries: its tiles are seldom cut.
// A word is 32 bits of what is multiplied: a float, or two bfloat16 whose products are added in float32.

#include <cstdint>

namespace fpdist::kernels {

inline constexpr int64_t kBlockRows = 48;
inline constexpr int64_t kPanelKeys = 64;

/// What may be skipped or needs no mask is read off these. The keys of a panel, by their numbers in the pack.
struct KeyPanel {
  int32_t first_row, last_row;      ///< of its keys
  int32_t least_end, greatest_end;  ///< of their subtrees
  /// So few rows see them that forward reads them where they lie: packing costs more than it spares. Decoding has a
  /// leaf for each query.
  bool is_direct;
};

/// Whole problem; heads of a token side by side, tokens behind each other.
struct BlockedProblem {
  const void *q, *k, *v;  ///< [queries, key_heads * group, head_size], [keys, key_heads, head_size] twice
  bool is_bfloat16;       ///< these; floats otherwise
  int64_t queries, keys, key_heads, group, head_size;
  int64_t padded;                ///< head_size up to whole words of a transposed square: a multiple of 16 words
  const int32_t* q_row;          ///< [queries * group] of each row
  const int32_t *k_row, *k_end;  ///< [panels * kPanelKeys]; behind the last key nobody sees any
  const KeyPanel* panel;         ///< [panels]
  int64_t panels;
  float scale;
  // Inlined always: a function of its own might be linked from a source for another processor.
  __attribute__((always_inline)) int64_t rows() const { return queries * group; }
  /// First element of row `row` of `head` in a tensor like q.
  __attribute__((always_inline)) int64_t place(int64_t head, int64_t row) const {
    return (row / group * key_heads * group + head * group + row % group) * head_size;
  }
};

/// Keys of one head as the products read them, panel by panel, each of padded * kPanelKeys elements.
struct PackedPanels {
  uint32_t* k_across;  ///< [words of a key][kPanelKeys]
  uint32_t* v_along;   ///< forward: [kPanelKeys / elements of a word][padded], keys of a word interleaved
  uint32_t* v_across;  ///< backward, as k_across
  uint32_t* k_along;   ///< backward, as v_along
};

/// Rows [row_begin, row_end) of key head `head`, a block at most, against panels [panel_begin, panel_end).
struct ForwardTask {
  int64_t head, row_begin, row_end, panel_begin, panel_end;
  const int32_t*
      kept;  ///< null, or numbers of panels, ascending: kept[panel_begin] to kept[panel_end - 1] in their place
  PackedPanels packed;  ///< of the head; k_across null: packed on the way, for who reads them once
  bool rounds;          ///< out, to bfloat16
  void* out;            ///< [queries, key_heads * group, head_size]
  float* lse;           ///< [queries, key_heads * group] natural logarithm, -inf where no key is seen
  void* scratch;
};

/// Rows of one head as backward reads them.
struct PackedRows {
  uint32_t *q, *grad;              ///< [rows][words of a row]
  uint32_t *q_along, *grad_along;  ///< [rows / elements of a word][padded]; q and grad where a word is a float
  float* lse2;                     ///< [rows] merged lse, base 2
  float* delta;                    ///< [rows] grad . out
};

struct PackRows {
  int64_t head, row_begin, row_end;  ///< begins with a block, ends with one or with the rows
  const void *grad, *out;            ///< [queries, key_heads * group, head_size]
  bool grad_is_bfloat16, out_is_bfloat16;
  const float* lse;  ///< [queries, key_heads * group]
  PackedRows packed;
};

/// All rows against panels [panel_begin, panel_end) of one head: those keys' gradients and these keys' share of dq.
struct BackwardTask {
  int64_t head, panel_begin, panel_end;
  PackedPanels packed;
  PackedRows rows;
  float* dq;         ///< [rows of the head][padded] garbage to begin with
  uint8_t* touched;  ///< [blocks of rows] zeros to begin with; 1 where dq's rows have been written
  bool rounds;       ///< dk and dv, to bfloat16
  void *dk, *dv;     ///< [keys, key_heads, head_size]
  void* scratch;
};

/// One instruction set's way.
struct BlockedKernel {
  const char* name;
  int64_t word;  ///< elements of a word
  int64_t (*scratch_bytes)(const BlockedProblem& problem);
  /// Panels [begin, end) of `head`, into the members of `packed` that are not null.
  void (*pack_panels)(const BlockedProblem& problem, int64_t head, int64_t begin, int64_t end,
                      const PackedPanels& packed);
  void (*forward)(const BlockedProblem& problem, const ForwardTask& task);
  void (*pack_rows)(const BlockedProblem& problem, const PackRows& rows);
  void (*backward)(const BlockedProblem& problem, const BackwardTask& task);
  /// `size` floats to bfloat16.
  void (*round)(const float* from, int64_t size, uint16_t* to);
};

/// Null where the build is for another processor; whether this one can is the caller's to ask.
const BlockedKernel* blocked_kernel_avx2();         ///< words of float; needs avx2 and fma
const BlockedKernel* blocked_kernel_avx512();       ///< words of float; needs x86-64-v4
const BlockedKernel* blocked_kernel_avx512_bf16();  ///< words of two bfloat16; needs avx512_bf16 too

}  // namespace fpdist::kernels
