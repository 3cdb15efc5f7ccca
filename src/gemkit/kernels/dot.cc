// Matrix products of bfloat16 and float32 for CPUs with AVX-512 and its bfloat16 dot product,
// called by XLA on its own threads.
//
// A weight is [N, K] with contiguous rows, as at rest. Few rows of x stream it once, straight
// from where it lies (memory-mapped weights need no copy); many rows work on strips of 32
// columns, put in the order of the dot instruction by the thread that uses them.

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>

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

// Asks for large pages under a result that is about to be written for the first time: touching a
// page costs as much as computing what goes into it.
void in_large_pages(void* data, size_t bytes) {
  constexpr uintptr_t page = 2 << 20;
  uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
  uintptr_t end = ((uintptr_t)data + bytes) / page * page;
  if (begin + 4 * page <= end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
}

thread_local Scratch strip_memory, rows_memory, sums_memory;

// ------- results

void store(float* out, __m512 value, __mmask16 lanes) { _mm512_mask_storeu_ps(out, lanes, value); }

void store(Bf16* out, __m512 value, __mmask16 lanes) {
  _mm256_mask_storeu_epi16(out, lanes, (__m256i)_mm512_cvtneps_pbh(value));
}

void store_one(float* out, float value) { *out = value; }

void store_one(Bf16* out, float value) {
  store(out, _mm512_set1_ps(value), 1);
}

// At most this many rows stream the weight from where it lies.
constexpr int64_t kFewRows = 16;
// Bytes fetched ahead of them: the processor's own prefetching ends with every page.
constexpr int64_t kAhead = 8192;

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
      _mm_prefetch(reinterpret_cast<const char*>(w + c * depth + k) + kAhead, _MM_HINT_T0);
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

// Both dtypes are handled as words of 32 bits along K: a float, or two bfloat16 that the dot
// instruction takes together.
using Word = uint32_t;

constexpr int64_t kRows = 12, kStrip = 32, kBlock = 20 * kRows, kWords = 2048;

// A part of a product [rows, columns] whose operands are `depth` deep.
struct Shape {
  int64_t rows, columns, depth;
  bool by_columns;  // the weight is [depth, columns] instead of [columns, depth]
};

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
        v[i] = c < count ? load_vector(w + c * pitch + k, taken) : _mm512_setzero_si512();
      }
      transpose(v);
      for (int64_t i = 0; i < words; ++i)
        _mm512_store_si512(strip + (k / each + i) * kStrip + half * 16, v[i]);
    }
  }
}

// The same where the weight's columns, in rows `pitch` apart, are the product's.
void strip_of_columns(const Bf16* w, Word* strip, int64_t count, int64_t depth, int64_t pitch) {
  __mmask32 lanes = (__mmask32)((uint64_t{1} << count) - 1);
  const __m512i low = _mm512_set_epi16(
      47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35,
      3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int64_t k = 0; k < depth; k += 2) {
    __m512i even = _mm512_maskz_loadu_epi16(lanes, w + k * pitch);
    __m512i odd = k + 1 < depth ? _mm512_maskz_loadu_epi16(lanes, w + (k + 1) * pitch)
                                : _mm512_setzero_si512();
    _mm512_store_si512(strip + k * 16, _mm512_permutex2var_epi16(even, low, odd));
    _mm512_store_si512(strip + k * 16 + 16, _mm512_permutex2var_epi16(even, high, odd));
  }
}

void strip_of_columns(const float* w, Word* strip, int64_t count, int64_t depth, int64_t pitch) {
  __mmask16 left = first(count), right = first(std::max<int64_t>(0, count - 16));
  for (int64_t k = 0; k < depth; ++k) {
    _mm512_store_ps(strip + k * kStrip, _mm512_maskz_loadu_ps(left, w + k * pitch));
    _mm512_store_ps(strip + k * kStrip + 16, _mm512_maskz_loadu_ps(right, w + k * pitch + 16));
  }
}

// Rows of x, `pitch` apart, as panel[words][rows].
template <typename Element>
void panel_of(const Element* x, Word* panel, int64_t rows, int64_t depth, int64_t pitch) {
  constexpr int64_t each = sizeof(Word) / sizeof(Element);
  for (int64_t r = 0; r < rows; ++r) {
    const Element* row = x + r * pitch;
    int64_t i = 0;
    for (; i < depth / each; ++i) std::memcpy(panel + i * rows + r, row + i * each, sizeof(Word));
    if (depth % each) {
      panel[i * rows + r] = 0;
      std::memcpy(panel + i * rows + r, row + i * each, sizeof(Element));
    }
  }
}

__m512 add_words(FromBf16, __m512 sum, __m512i a, __m512i b) { return FromBf16::add(sum, a, b); }
__m512 add_words(FromFloat, __m512 sum, __m512i a, __m512i b) {
  return FromFloat::add(sum, _mm512_castsi512_ps(a), _mm512_castsi512_ps(b));
}

template <int ROWS, typename In, typename Out>
void tile(const Word* panel, const Word* strip, const float* before, Out* out, int64_t words,
          int64_t stride, __mmask16 left, __mmask16 right) {
  __m512 sums[ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    sums[r][0] = before ? _mm512_maskz_loadu_ps(left, before + r * stride) : _mm512_setzero_ps();
    sums[r][1] =
        before ? _mm512_maskz_loadu_ps(right, before + r * stride + 16) : _mm512_setzero_ps();
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
    store(out + r * stride, sums[r][0], left);
    if (right) store(out + r * stride + 16, sums[r][1], right);
  }
}

template <typename Out>
using Tile = void (*)(const Word*, const Word*, const float*, Out*, int64_t, int64_t, __mmask16,
                      __mmask16);

template <typename In, typename Out, int... R>
Tile<Out> tile_of(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr Tile<Out> tiles[] = {tile<R + 1, In, Out>...};
  return tiles[rows - 1];
}

// Adds the part of the product from k on, `depth` deep, to `before` (nothing if null).
template <typename In, typename Out>
void strips(ffi::ThreadPool& pool, const typename In::Element* x, const typename In::Element* w,
            const float* before, Out* out, Shape shape, int64_t k, int64_t depth) {
  constexpr int64_t each = In::width / 16;
  int64_t words = (depth + each - 1) / each, rows = shape.rows, columns = shape.columns;
  Word* panels = rows_memory.at_least<Word>(std::min(rows, kBlock) * words);
  for (int64_t from = 0; from < rows; from += kBlock) {
    int64_t here = std::min(kBlock, rows - from);
    parallel(pool, (here + kRows - 1) / kRows, [=](int64_t i) {
      int64_t r = i * kRows;
      panel_of(x + (from + r) * shape.depth + k, panels + r * words, std::min(kRows, here - r),
               depth, shape.depth);
    });
    parallel(pool, (columns + kStrip - 1) / kStrip, [=](int64_t i) {
      int64_t c = i * kStrip, count = std::min(kStrip, columns - c);
      Word* strip = strip_memory.at_least<Word>(words * kStrip);
      if (shape.by_columns) strip_of_columns(w + k * columns + c, strip, count, depth, columns);
      else strip_of_rows<In>(w + c * shape.depth + k, strip, count, depth, shape.depth);
      for (int64_t r = 0; r < here; r += kRows) {
        int64_t taken = std::min(kRows, here - r), at = (from + r) * columns + c;
        tile_of<In, Out>(taken, std::make_integer_sequence<int, kRows>())(
            panels + r * words, strip, before ? before + at : nullptr, out + at, words, columns,
            first(count), first(std::max<int64_t>(0, count - 16)));
      }
    });
  }
}

// A deep product is made in parts whose strips and rows stay in a core's own cache.
template <typename In, typename Out>
void product(ffi::ThreadPool& pool, const typename In::Element* x, const typename In::Element* w,
             Out* out, Shape shape) {
  constexpr int64_t part = kWords * (In::width / 16);
  if (shape.depth <= 2 * part) {
    strips<In>(pool, x, w, nullptr, out, shape, 0, shape.depth);
    return;
  }
  float* sums = sums_memory.at_least<float>(shape.rows * shape.columns);
  int64_t k = 0;
  for (; k + part < shape.depth; k += part)
    strips<In>(pool, x, w, k ? sums : nullptr, sums, shape, k, part);
  strips<In>(pool, x, w, sums, out, shape, k, shape.depth - k);
}

template <typename In, typename Out>
void dot(ffi::ThreadPool& pool, const typename In::Element* x, const typename In::Element* w,
         Out* out, Shape shape) {
  if (shape.rows <= kFewRows && !shape.by_columns)
    stream<In>(pool, x, w, out, shape.rows, shape.columns, shape.depth);
  else
    product<In>(pool, x, w, out, shape);
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
  auto kind = x.element_type();
  if (w.element_type() != kind || (kind != ffi::F32 && kind != ffi::BF16) ||
      (out.element_type() != ffi::F32 && out.element_type() != kind))
    return ffi::Error::InvalidArgument("float32, or bfloat16 with a result of either");
  in_large_pages(out.untyped_data(), out.size_bytes());
  Shape shape{rows, columns, depth, transposed};
  if (kind == ffi::F32)
    dot<FromFloat>(pool, data<float>(x), data<float>(w), data<float>(out), shape);
  else if (out.element_type() == ffi::F32)
    dot<FromBf16>(pool, data<Bf16>(x), data<Bf16>(w), data<float>(out), shape);
  else
    dot<FromBf16>(pool, data<Bf16>(x), data<Bf16>(w), data<Bf16>(out), shape);
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
