#!/usr/bin/env python3
"""Copies a kernel's source with one mistake in it. Usage: plant_fault.py SOURCE COPY FAULT; the faults stand below."""
import pathlib
import sys

FORWARD, KEYS, QUERIES = "tree_attention_forward.cu", "backward_keys.cu", "backward_queries.cu"
PORTABLE, PORTABLE_BACKWARD = "portable_attention_forward.cu", "portable_attention_backward.cu"
DECODE = "decode_attention.cu"
# Name: the file, what stands in it once, and what a mistaken author would have written.
FAULTS = {
    "selected_logprob_tail": ("selected_logprob.cu", "if (column + kVector <= vocabulary) {\n      expand", "if (column < vocabulary) {\n      expand"),
    "selected_logprob_tile": ("selected_logprob.cu", "      if (column + i >= vocabulary) continue;\n", ""),
    "selected_logprob_search": ("selected_logprob.cu", "probe < high && __ldg", "__ldg"),
    "selected_logprob_largest": ("selected_logprob.cu", "scratch.column[warp] = column;\n  __syncthreads();\n", "scratch.column[warp] = column;\n"),
    "selected_logprob_sums": ("selected_logprob.cu", "scratch.weighted[warp] = seen.weighted;\n  __syncthreads();\n", "scratch.weighted[warp] = seen.weighted;\n"),
    "selected_logprob_marks": ("selected_logprob.cu", "  __syncthreads();\n  if (threadIdx.x < 32) mark_scores", "  if (threadIdx.x < 32) mark_scores"),
    "selected_logprob_marked": ("selected_logprob.cu", "mark_scores(a, scores);\n  __syncthreads();\n", "mark_scores(a, scores);\n"),
    "selected_logprob_mark": ("selected_logprob.cu", "lane == 0 && marked != kNoMark", "marked != kNoMark"),
    "selected_logprob_column": ("selected_logprob.cu", "if (column < vocabulary) {\n      const float z", "if (column <= vocabulary) {\n      const float z"),
    "selected_logprob_row": ("selected_logprob.cu", "    if (column >= vocabulary) return;  // and so are the next ones\n", ""),
    "part_sum_tail": ("part_sum.cu", "if (begin + N <= a.count)", "if (begin < a.count)"),
    "part_sum_parts": ("part_sum.cu", "if (part >= a.parts) break;", "if (part > a.parts) break;"),
    "swiglu_tail": ("swiglu.cu", "if (begin + N <= a.width)", "if (begin < a.width)"),
    "swiglu_rows": ("swiglu.cu", "row < a.rows; row += gridDim.y", "row <= a.rows; row += gridDim.y"),
    "nf4_tail": ("nf4.cu", "if (begin + kEach <= a.elements) {", "if (begin < a.elements) {"),
    "nf4_table": ("nf4.cu", "table_entry(threadIdx.x);\n  __syncthreads();\n", "table_entry(threadIdx.x);\n"),
    "rms_norm_before": ("rms_norm.cu", "  __syncthreads();  // the sums of the row before have been read\n", ""),
    "rms_norm_after": ("rms_norm.cu", "  __syncthreads();\n#pragma unroll\n  for (int i = 0; i < N; ++i) value[i] = 0.0f;",
                       "#pragma unroll\n  for (int i = 0; i < N; ++i) value[i] = 0.0f;"),
    "rms_norm_width": ("rms_norm.cu", "if (is_row && column_of<N>(k) < a.width)", "if (is_row && column_of<N>(k) <= a.width)"),
    "rms_norm_row": ("rms_norm.cu", "const bool is_row = row < a.rows;", "const bool is_row = row <= a.rows;"),
    "rms_norm_early": ("rms_norm.cu", "  float sum[1] = {};\n", "  float sum[1] = {};\n  if (!is_row) return;\n"),
    "rms_norm_columns": ("rms_norm.cu", "    __syncthreads();\n    for (uint32_t column", "    for (uint32_t column"),
    "rms_norm_partial": ("rms_norm.cu", "  __syncthreads();\n  if (threadIdx.y != 0", "  if (threadIdx.y != 0"),
    "rotary_head": ("rotary.cu", "head < a.heads) {", "head <= a.heads) {"),
    "rotary_row": ("rotary.cu", "if (row >= a.rows) return;", "if (row > a.rows) return;"),
    "forward_fence": (FORWARD, "    publish_barriers();\n", ""),
    "forward_values": (FORWARD, "  __device__ __forceinline__ void last_values() {\n    values.wait_full();\n",
                       "  __device__ __forceinline__ void last_values() {\n"),
    "forward_early": (FORWARD, "    wait_products<0>();\n    pin(out), pin(weight);\n    release(values.empty());\n",
                      "    release(values.empty());\n    wait_products<0>();\n    pin(out), pin(weight);\n"),
    "forward_scores": (FORWARD, "    wait_products<1>();\n", ""),
    "forward_turn": (FORWARD, "if (group == 0 || t + 1 < work.tiles) let_pass", "let_pass"),
    "forward_mask": (FORWARD, "hide(score, a.rows.key + (tile >> 1) * kKeysOfTile,",
                     "hide(score, a.rows.key + (tile >> 1) * kKeysOfTile + 2,"),
    "forward_row": (FORWARD, "row + 8 * half < a.q.rows", "row + 8 * half <= a.q.rows"),
    "keys_full": (KEYS, "    ring.wait_full();\n", ""),
    "keys_early": (KEYS, "    wait_products<1>();\n    pin(grad), pin(dk), pin(score_grad);\n    release(ring.empty_before());\n",
                   "    release(ring.empty_before());\n    wait_products<1>();\n    pin(grad), pin(dk), pin(score_grad);\n"),
    "keys_bytes": (KEYS, "arrive_expecting(ring.full(), P::kSlotBytes);",
                   "arrive_expecting(ring.full(), P::kSlotBytes - P::kSumBytes);"),
    "keys_mask": (KEYS, "a.rows.q_row + (tile >> 1) * kQueriesOfTile,", "a.rows.q_row + (tile >> 1) * kQueriesOfTile + 1,"),
    "portable_barrier": (PORTABLE, "    wait_copies<0>();\n    __syncthreads();\n", "    wait_copies<0>();\n"),
    "portable_wait": (PORTABLE, "    wait_copies<0>();\n    __syncthreads();\n", "    __syncthreads();\n"),
    "portable_end": (PORTABLE, "if (step + 1 < steps) send(keys,", "if (step + 1 <= steps) send(keys,"),
    "portable_row": (PORTABLE, "own < rows)", "own <= rows)"),
    "portable_cut": (PORTABLE, "to >= a.q.rows * a.q.heads", "to > a.q.rows * a.q.heads"),
    "portable_part": (PORTABLE_BACKWARD, "a.dq_parts + part.part * rows", "a.dq_parts + (part.part + 1) * rows"),
    "portable_mask": (PORTABLE, "{__ldg(own), __ldg(own + 8)};", "{__ldg(own) + 1, __ldg(own + 8) + 1};"),
    "portable_slot": (PORTABLE_BACKWARD, "send(step + 1, (step + 1) % kSlots);", "send(step + 1, step % kSlots);"),
    "portable_meet": (PORTABLE_BACKWARD, "    __syncthreads();  // it is there", "    // it is there"),
    "decode_barrier": (DECODE, "    __syncthreads();  // the step is there for all threads\n", ""),
    "decode_reuse": (DECODE, "    __syncthreads();  // nobody reads it any longer\n", ""),
    "decode_wait": (DECODE, "    wait_copies<1>();\n", "    wait_copies<2>();\n"),
    "decode_weights": (DECODE, "    __syncwarp();  // the row's weights are there\n", ""),
    "decode_end": (DECODE, "k.rows = v.rows = work.key + work.keys;", "(void)k.rows;"),
    "decode_row": (DECODE, "const bool is_there = own < work.rows();\n      const int64_t part", "const bool is_there = true;\n      const int64_t part"),
    "decode_tail": (DECODE, "if (left < kColumns) {", "if (left < 0) {"),
    "decode_plain_tail": (DECODE, "if (own + kShare * i >= left)", "if (own + kShare * i > left)"),
    "decode_merge": (DECODE, "return lse_of + part;", "return lse_of + part_at(begin);"),
    "queries_registers": (QUERIES, "    wait_products<1>();\n    differentiate();\n", "    differentiate();\n"),
    "queries_key": (QUERIES, "work.head / (a.q.heads / a.k.heads)", "work.head"),
}


def main():
    source, copy, fault = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    name, right, wrong = FAULTS[fault]
    text = source.read_text()
    if source.name != name or text.count(right) != 1:
        sys.exit(f"plant_fault: {source} does not hold once: {right!r}")
    copy.write_text(text.replace(right, wrong))


if __name__ == "__main__":
    main()
