// Matrix products of bfloat16 and float32 for CPUs with AVX-512 and its bfloat16 dot product,
// called by XLA on its own threads.
//
// A weight is [N, K] with contiguous rows, as at rest. Few rows of x stream it once, straight
// from where it lies (memory-mapped weights need no copy); many rows work on strips of 32
// columns, put in the order of the dot instruction by the thread that uses them.

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

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
  while (shared->done.load(std::memory_order_acquire) < count) _mm_pause();
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

thread_local Scratch strip_memory, rows_memory;

// ------- results

void store(float* out, __m512 value, __mmask16 lanes) { _mm512_mask_storeu_ps(out, lanes, value); }

void store(Bf16* out, __m512 value, __mmask16 lanes) {
  _mm256_mask_storeu_epi16(out, lanes, (__m256i)_mm512_cvtneps_pbh(value));
}

void store_one(float* out, float value) { *out = value; }

void store_one(Bf16* out, float value) {
  store(out, _mm512_set1_ps(value), 1);
}

__mmask16 first(int64_t lanes) { return lanes >= 16 ? 0xffff : (1u << lanes) - 1; }

// ------- few rows: dot products along K

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

template <typename In, int ROWS, int COLUMNS, typename Out>
void dots(const typename In::Element* x, const typename In::Element* w, Out* out, int64_t depth,
          int64_t stride) {
  __m512 sums[ROWS][COLUMNS];
  for (auto& row : sums)
    for (auto& sum : row) sum = _mm512_setzero_ps();
  auto step = [&](auto load, int64_t k) __attribute__((always_inline)) {
    decltype(In::load(x)) rows[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) rows[r] = load(x + r * depth + k);
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; ++c) {
      auto column = load(w + c * depth + k);
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) sums[r][c] = In::add(sums[r][c], rows[r], column);
    }
  };
  int64_t k = 0;
  for (; k + In::width <= depth; k += In::width)
    step([](auto p) __attribute__((always_inline)) { return In::load(p); }, k);
  if (k < depth) {
    int64_t rest = depth - k;
    step([rest](auto p) __attribute__((always_inline)) { return In::load(p, rest); }, k);
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < COLUMNS; ++c)
      store_one(out + r * stride + c, _mm512_reduce_add_ps(sums[r][c]));
}

template <typename In, int COLUMNS, typename Out>
void dots_for(const typename In::Element* x, const typename In::Element* w, Out* out, int64_t rows,
              int64_t depth, int64_t stride) {
  for (; rows >= 4; rows -= 4, x += 4 * depth, out += 4 * stride)
    dots<In, 4, COLUMNS>(x, w, out, depth, stride);
  if (rows == 3) dots<In, 3, COLUMNS>(x, w, out, depth, stride);
  if (rows == 2) dots<In, 2, COLUMNS>(x, w, out, depth, stride);
  if (rows == 1) dots<In, 1, COLUMNS>(x, w, out, depth, stride);
}

template <typename In, typename Out>
void stream(ffi::ThreadPool& pool, const typename In::Element* x, const typename In::Element* w,
            Out* out, int64_t rows, int64_t columns, int64_t depth) {
  constexpr int64_t kTile = 6;
  // About 128 KiB of weights a task: enough to pay for it, few enough to even out.
  int64_t per_task = std::max<int64_t>(1, (1 << 17) / (depth * sizeof(*w)) / kTile) * kTile;
  parallel(pool, (columns + per_task - 1) / per_task, [=](int64_t task) {
    int64_t c = task * per_task, end = std::min(columns, c + per_task);
    for (; c + kTile <= end; c += kTile)
      dots_for<In, kTile>(x, w + c * depth, out + c, rows, depth, columns);
    for (; c < end; ++c) dots_for<In, 1>(x, w + c * depth, out + c, rows, depth, columns);
  });
}

// ------- many rows: strips of columns

constexpr int64_t kRows = 12, kStrip = 32, kBlock = 20 * kRows;

// 16 vectors of 16 pairs each, transposed.
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

// Columns c .. c + 31 of the product, as pairs along K: strip[K / 2][32][2]. The weight's rows
// are the columns; those beyond the last are zeros.
void strip_of_rows(const Bf16* w, Bf16* strip, int64_t count, int64_t depth) {
  for (int64_t k = 0; k < depth; k += 32) {
    int64_t taken = std::min<int64_t>(32, depth - k), pairs = (taken + 1) / 2;
    for (int64_t half = 0; half < 2; ++half) {
      __m512i v[16];
      for (int64_t i = 0; i < 16; ++i) {
        int64_t c = half * 16 + i;
        v[i] = c < count ? FromBf16::load(w + c * depth + k, taken) : _mm512_setzero_si512();
      }
      transpose(v);
      for (int64_t p = 0; p < pairs; ++p)
        _mm512_store_si512(strip + (k / 2 + p) * 64 + half * 32, v[p]);
    }
  }
}

// The same where the weight's columns are the product's: w is [K, stride].
void strip_of_columns(const Bf16* w, Bf16* strip, int64_t count, int64_t depth, int64_t stride) {
  __mmask32 lanes = (__mmask32)((uint64_t{1} << count) - 1);
  // Unpacking works within quarters of a vector; this order of 32 columns makes it come out right.
  const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
  (void)order;
  const __m512i low = _mm512_set_epi16(
      47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35,
      3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int64_t k = 0; k < depth; k += 2) {
    __m512i even = _mm512_maskz_loadu_epi16(lanes, w + k * stride);
    __m512i odd = k + 1 < depth ? _mm512_maskz_loadu_epi16(lanes, w + (k + 1) * stride)
                                : _mm512_setzero_si512();
    _mm512_store_si512(strip + k * 32, _mm512_permutex2var_epi16(even, low, odd));
    _mm512_store_si512(strip + k * 32 + 32, _mm512_permutex2var_epi16(even, high, odd));
  }
}

// Rows of x as panel[K / 2][rows][2].
void panel_of(const Bf16* x, Bf16* panel, int64_t rows, int64_t depth) {
  int64_t pairs = (depth + 1) / 2;
  auto* out = reinterpret_cast<uint32_t*>(panel);
  for (int64_t r = 0; r < rows; ++r) {
    const Bf16* row = x + r * depth;
    for (int64_t p = 0; p < depth / 2; ++p) std::memcpy(out + p * rows + r, row + 2 * p, 4);
    if (depth % 2) out[(pairs - 1) * rows + r] = row[depth - 1];
  }
}

template <int ROWS, typename Out>
void tile(const Bf16* panel, const Bf16* strip, Out* out, int64_t pairs, int64_t stride,
          __mmask16 left, __mmask16 right) {
  __m512 sums[ROWS][2];
  for (auto& row : sums) row[0] = row[1] = _mm512_setzero_ps();
  auto* x = reinterpret_cast<const int32_t*>(panel);
  for (int64_t p = 0; p < pairs; ++p) {
    auto w0 = (__m512bh)_mm512_load_si512(strip + p * 64);
    auto w1 = (__m512bh)_mm512_load_si512(strip + p * 64 + 32);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      auto both = (__m512bh)_mm512_set1_epi32(x[p * ROWS + r]);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], both, w0);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], both, w1);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    store(out + r * stride, sums[r][0], left);
    if (right) store(out + r * stride + 16, sums[r][1], right);
  }
}

template <typename Out>
using Tile = void (*)(const Bf16*, const Bf16*, Out*, int64_t, int64_t, __mmask16, __mmask16);

template <typename Out, int... R>
Tile<Out> tile_of(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr Tile<Out> tiles[] = {tile<R + 1, Out>...};
  return tiles[rows - 1];
}

template <typename Out>
void strips(ffi::ThreadPool& pool, const Bf16* x, const Bf16* w, Out* out, int64_t rows,
            int64_t columns, int64_t depth, bool by_columns) {
  int64_t pairs = (depth + 1) / 2;
  Bf16* panels = rows_memory.at_least<Bf16>(std::min(rows, kBlock) * pairs * 2);
  for (int64_t from = 0; from < rows; from += kBlock) {
    int64_t here = std::min(kBlock, rows - from);
    parallel(pool, (here + kRows - 1) / kRows, [=](int64_t i) {
      int64_t r = i * kRows;
      panel_of(x + (from + r) * depth, panels + r * pairs * 2, std::min(kRows, here - r), depth);
    });
    parallel(pool, (columns + kStrip - 1) / kStrip, [=](int64_t i) {
      int64_t c = i * kStrip, count = std::min(kStrip, columns - c);
      Bf16* strip = strip_memory.at_least<Bf16>(pairs * 64);
      if (by_columns) strip_of_columns(w + c, strip, count, depth, columns);
      else strip_of_rows(w + c * depth, strip, count, depth);
      for (int64_t r = 0; r < here; r += kRows) {
        int64_t taken = std::min(kRows, here - r);
        tile_of<Out>(taken, std::make_integer_sequence<int, kRows>())(
            panels + r * pairs * 2, strip, out + (from + r) * columns + c, pairs, columns,
            first(count), first(std::max<int64_t>(0, count - 16)));
      }
    });
  }
}

template <typename T>
T* data(ffi::AnyBuffer& buffer) { return reinterpret_cast<T*>(buffer.untyped_data()); }

ffi::Error Dot(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer w,
               ffi::Result<ffi::AnyBuffer> result, bool transposed) {
  auto xs = x.dimensions(), ws = w.dimensions();
  if (xs.size() != 2 || ws.size() != 2) return ffi::Error::InvalidArgument("two matrices");
  int64_t rows = xs[0], depth = xs[1], columns = transposed ? ws[1] : ws[0];
  if (depth != (transposed ? ws[0] : ws[1])) return ffi::Error::InvalidArgument("unequal depth");
  ffi::AnyBuffer out = *result;
  bool wide = out.element_type() == ffi::F32;
  if (x.element_type() == ffi::F32) {
    stream<FromFloat>(pool, data<float>(x), data<float>(w), data<float>(out), rows, columns, depth);
  } else if (rows <= 16 && !transposed) {
    if (wide) stream<FromBf16>(pool, data<Bf16>(x), data<Bf16>(w), data<float>(out), rows, columns, depth);
    else stream<FromBf16>(pool, data<Bf16>(x), data<Bf16>(w), data<Bf16>(out), rows, columns, depth);
  } else {
    if (wide) strips(pool, data<Bf16>(x), data<Bf16>(w), data<float>(out), rows, columns, depth, transposed);
    else strips(pool, data<Bf16>(x), data<Bf16>(w), data<Bf16>(out), rows, columns, depth, transposed);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemkit_dot, Dot,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("transposed"));
