// Pieces that the kernels share: threads, memory, and tiles of matrix products in bfloat16 and
// float32 for CPUs with AVX-512 and its bfloat16 dot product.

#pragma once

#include <immintrin.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Bf16 = uint16_t;

// ------- threads

// Runs task(0) .. task(count - 1) on the pool and on the calling thread, which takes what no
// other has begun: it never waits for a thread that is itself waiting.
struct Shared {
  std::function<void(int64_t)> task;
  int64_t count;
  std::atomic<int64_t> next{0}, done{0};

  void work() {
    for (int64_t i; (i = next.fetch_add(1)) < count; done.fetch_add(1, std::memory_order_release))
      task(i);
  }
};

void parallel(ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> task) {
  int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  if (helpers <= 0) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  auto shared = std::make_shared<Shared>();
  shared->task = std::move(task);
  shared->count = count;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([shared] { shared->work(); });
  shared->work();
  // XLA may run more threads than there are cores: one that waits for long gives its core away.
  for (int spins = 0; shared->done.load(std::memory_order_acquire) < count; ++spins)
    if (spins < 1000) _mm_pause();
    else sched_yield();
}

// Memory a thread keeps from call to call.
struct Scratch {
  void* data = nullptr;
  size_t size = 0;

  template <typename T>
  T* at_least(size_t elements) {
    size_t bytes = (elements * sizeof(T) + 63) / 64 * 64;
    if (bytes > size) {
      std::free(data);
      data = std::aligned_alloc(64, bytes);
      size = bytes;
    }
    return static_cast<T*>(data);
  }
  ~Scratch() { std::free(data); }
};

// Asks for large pages under a result that is about to be written for the first time: touching a
// page costs as much as computing what goes into it.
void in_large_pages(void* data, size_t bytes) {
  constexpr uintptr_t page = 2 << 20;
  uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
  uintptr_t end = ((uintptr_t)data + bytes) / page * page;
  if (begin + 4 * page <= end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
}

// ------- results

void store(float* out, __m512 value, __mmask16 lanes) { _mm512_mask_storeu_ps(out, lanes, value); }

void store(Bf16* out, __m512 value, __mmask16 lanes) {
  _mm256_mask_storeu_epi16(out, lanes, (__m256i)_mm512_cvtneps_pbh(value));
}

void store_one(float* out, float value) { *out = value; }

void store_one(Bf16* out, float value) {
  store(out, _mm512_set1_ps(value), 1);
}

// Masks of the first lanes; of none for fewer than one.
__mmask16 first(int64_t lanes) {
  return lanes >= 16 ? 0xffff : (1u << std::max<int64_t>(0, lanes)) - 1;
}

// ------- operands

struct FromBf16 {
  using Element = Bf16;
  static constexpr int64_t width = 32;
  static __m512i load(const Bf16* p) { return _mm512_loadu_si512(p); }
  static __m512i load(const Bf16* p, int64_t count) {
    return _mm512_maskz_loadu_epi16((__mmask32)((uint64_t{1} << count) - 1), p);
  }
  static __m512 add(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};

struct FromFloat {
  using Element = float;
  static constexpr int64_t width = 16;
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static __m512 load(const float* p, int64_t count) {
    return _mm512_maskz_loadu_ps(first(count), p);
  }
  static __m512 add(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
};

// ------- many rows: strips of columns

// Both dtypes are handled as words of 32 bits along K: a float, or two bfloat16 that the dot
// instruction takes together.
using Word = uint32_t;

constexpr int64_t kRows = 12, kStrip = 32;

// 16 vectors of 16 words each, transposed.
void transpose(__m512i v[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

__m512i load_vector(const Bf16* p, int64_t count) { return FromBf16::load(p, count); }
__m512i load_vector(const float* p, int64_t count) {
  return _mm512_castps_si512(FromFloat::load(p, count));
}

// Columns c .. c + 31 of the product as strip[words][32]. The weight's rows, `pitch` apart, are the
// columns; those beyond the last are zeros.
template <typename In>
void strip_of_rows(const typename In::Element* w, Word* strip, int64_t count, int64_t depth,
                   int64_t pitch) {
  constexpr int64_t each = In::width / 16;
  for (int64_t k = 0; k < depth; k += In::width) {
    int64_t taken = std::min(In::width, depth - k), words = (taken + each - 1) / each;
    for (int64_t half = 0; half < 2; ++half) {
      __m512i v[16];
      for (int64_t i = 0; i < 16; ++i) {
        int64_t c = half * 16 + i;
        // The same place in the next strip, which will be asked for when this one has been used.
        _mm_prefetch(w + (kStrip + c) * pitch + k, _MM_HINT_T1);
        v[i] = c < count ? load_vector(w + c * pitch + k, taken) : _mm512_setzero_si512();
      }
      transpose(v);
      for (int64_t i = 0; i < words; ++i)
        _mm512_store_si512(strip + (k / each + i) * kStrip + half * 16, v[i]);
    }
  }
}

// The same where the weight's columns, in rows `pitch` apart, are the product's; as many strips,
// one after the other, as hold `count` columns: a row is a page of memory to look up.
void strips_of_columns(const Bf16* w, Word* strips, int64_t count, int64_t depth, int64_t pitch) {
  const __m512i low = _mm512_set_epi16(
      47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35,
      3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  int64_t words = (depth + 1) / 2;
  for (int64_t i = 0; i < words; ++i)
    for (int64_t c = 0; c < count; c += kStrip) {
      __mmask32 lanes = ~__mmask32{0} >> (kStrip - std::min(kStrip, count - c));
      const Bf16* row = w + 2 * i * pitch + c;
      __m512i even = _mm512_maskz_loadu_epi16(lanes, row);
      __m512i odd = _mm512_maskz_loadu_epi16(2 * i + 1 < depth ? lanes : 0, row + pitch);
      Word* at = strips + c * words + i * kStrip;
      _mm512_store_si512(at, _mm512_permutex2var_epi16(even, low, odd));
      _mm512_store_si512(at + 16, _mm512_permutex2var_epi16(even, high, odd));
    }
}

void strips_of_columns(const float* w, Word* strips, int64_t count, int64_t depth, int64_t pitch) {
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t c = 0; c < count; c += 16)
      _mm512_store_ps(strips + c / kStrip * kStrip * depth + k * kStrip + c % kStrip,
                      _mm512_maskz_loadu_ps(first(count - c), w + k * pitch + c));
}

// Rows of x, row(0) .. row(rows - 1), at most 16, as panel[words][rows].
template <typename In, typename Row>
void panel_of(Row row, Word* panel, int64_t rows, int64_t depth) {
  constexpr int64_t each = In::width / 16;
  for (int64_t k = 0; k < depth; k += In::width) {
    int64_t taken = std::min(In::width, depth - k), words = (taken + each - 1) / each;
    __m512i v[16];
    for (int64_t r = 0; r < 16; ++r)
      v[r] = r < rows ? load_vector(row(r) + k, taken) : _mm512_setzero_si512();
    transpose(v);
    for (int64_t i = 0; i < words; ++i)
      _mm512_mask_storeu_epi32(panel + (k / each + i) * rows, first(rows), v[i]);
  }
}

__m512 add_words(FromBf16, __m512 sum, __m512i a, __m512i b) { return FromBf16::add(sum, a, b); }
__m512 add_words(FromFloat, __m512 sum, __m512i a, __m512i b) {
  return FromFloat::add(sum, _mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
}

// Rows of a panel, `words` of each, times the first `columns` of a strip, added to `before`, whose
// rows are `pitch` apart (nothing if null).
template <int ROWS, typename In, typename Out>
void tile(const Word* panel, const Word* strip, int64_t words, int64_t columns, const float* before,
          int64_t pitch, Out* out, int64_t stride) {
  __mmask16 left = first(columns), right = first(columns - 16);
  __m512 sums[ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    if (before) _mm_prefetch(before + r * pitch, _MM_HINT_T0);
    if (before) _mm_prefetch(before + r * pitch + 16, _MM_HINT_T0);
    sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < words; ++i) {
    __m512i w0 = _mm512_load_si512(strip + i * kStrip);
    __m512i w1 = _mm512_load_si512(strip + i * kStrip + 16);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      __m512i word = _mm512_set1_epi32(panel[i * ROWS + r]);
      sums[r][0] = add_words(In(), sums[r][0], word, w0);
      sums[r][1] = add_words(In(), sums[r][1], word, w1);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    const float* old = before + r * pitch;
    if (before) sums[r][0] = _mm512_add_ps(sums[r][0], _mm512_maskz_loadu_ps(left, old));
    if (before) sums[r][1] = _mm512_add_ps(sums[r][1], _mm512_maskz_loadu_ps(right, old + 16));
    store(out + r * stride, sums[r][0], left);
    if (right) store(out + r * stride + 16, sums[r][1], right);
  }
}

template <typename Out>
using Tile = void (*)(const Word*, const Word*, int64_t, int64_t, const float*, int64_t, Out*,
                      int64_t);

template <typename In, typename Out, int... R>
Tile<Out> tile_of(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr Tile<Out> tiles[] = {tile<R + 1, In, Out>...};
  return tiles[rows - 1];
}

template <typename In, typename Out>
Tile<Out> tile_of(int64_t rows) {
  return tile_of<In, Out>(rows, std::make_integer_sequence<int, kRows>());
}

template <typename T>
T* data(ffi::AnyBuffer& buffer) { return reinterpret_cast<T*>(buffer.untyped_data()); }

}  // namespace
