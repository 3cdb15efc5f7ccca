// Matrix products of bfloat16 and float32 for CPUs with AVX-512 and its bfloat16 dot product,
// called by XLA on its own threads.
//
// A weight is [N, K] with contiguous rows, as at rest. Few rows of x stream it once, straight
// from where it lies (memory-mapped weights need no copy); many rows work on strips of 32
// columns, put in the order of the dot instruction by the thread that uses them.

#include "tiles.h"

namespace {

thread_local Scratch strip_memory, rows_memory, sums_memory;

// At most this many rows stream the weight from where it lies.
constexpr int64_t kFewRows = 16;
// Bytes fetched ahead of them: the processor's own prefetching ends with every page.
constexpr int64_t kAhead = 8192;

// ------- few rows: dot products along K

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

// Rows taken at once, words of their depth, and strips of the weight, so that the rows stay in the
// cores' common cache and the strips in a core's own.
constexpr int64_t kBlock = 85 * kRows, kWords = 1024, kGroup = 4;
// Tasks a thread: enough to even out.
constexpr int64_t kTasks = 4;

// A product [rows, columns] whose operands are `depth` deep.
struct Shape {
  int64_t rows, columns, depth;
  bool by_columns;  // the weight is [depth, columns] instead of [columns, depth]
};

// The weight's part from k on, `depth` deep, as the strips of columns c .. c + count - 1.
template <typename In>
void arrange(const typename In::Element* w, Word* strips, Shape shape, int64_t c, int64_t count,
             int64_t k, int64_t depth) {
  constexpr int64_t each = In::width / 16;
  int64_t words = (depth + each - 1) / each;
  if (shape.by_columns)
    strips_of_columns(w + k * shape.columns + c, strips, count, depth, shape.columns);
  else
    for (int64_t s = 0; s < count; s += kStrip)
      strip_of_rows<In>(w + (c + s) * shape.depth + k, strips + s * words,
                        std::min(kStrip, count - s), depth, shape.depth);
}

// Adds the part of the product from k on, `depth` deep, to `before` (nothing if null).
template <typename In, typename Out>
void part_of(ffi::ThreadPool& pool, const typename In::Element* x, const typename In::Element* w,
             const float* before, Out* out, Shape shape, int64_t k, int64_t depth) {
  constexpr int64_t each = In::width / 16;
  int64_t words = (depth + each - 1) / each, columns = shape.columns;
  int64_t tasks = kTasks * std::max<int64_t>(1, pool.num_threads());
  int64_t most = std::clamp<int64_t>((columns / kStrip + tasks - 1) / tasks, 1, kGroup) * kStrip;
  Word* panels = rows_memory.at_least<Word>(std::min(shape.rows, kBlock) * words);
  for (int64_t from = 0; from < shape.rows; from += kBlock) {
    int64_t rows = std::min(kBlock, shape.rows - from);
    parallel(pool, (rows + kRows - 1) / kRows, [=](int64_t i) {
      int64_t r = i * kRows;
      auto row = [=](int64_t i) { return x + (from + r + i) * shape.depth + k; };
      panel_of<In>(row, panels + r * words, std::min(kRows, rows - r), depth);
    });
    parallel(pool, (columns + most - 1) / most, [=](int64_t i) {
      int64_t c = i * most, count = std::min(most, columns - c);
      Word* strips = strip_memory.at_least<Word>(words * most);
      arrange<In>(w, strips, shape, c, count, k, depth);
      for (int64_t r = 0; r < rows; r += kRows)
        for (int64_t s = 0; s < count; s += kStrip) {
          int64_t at = (from + r) * columns + c + s;
          tile_of<In, Out>(std::min(kRows, rows - r))(
              panels + r * words, strips + s * words, words, count - s,
              before ? before + at : nullptr, columns, out + at, columns);
        }
    });
  }
}

// A deep product is made in equal parts, each of whole vectors.
template <typename In, typename Out>
void product(ffi::ThreadPool& pool, const typename In::Element* x, const typename In::Element* w,
             Out* out, Shape shape) {
  constexpr int64_t each = In::width / 16;
  int64_t words = (shape.depth + each - 1) / each, parts = (words + kWords - 1) / kWords;
  int64_t part = ((words + parts - 1) / parts + 15) / 16 * In::width;
  float* sums = reinterpret_cast<float*>(out);
  if (!std::is_same_v<Out, float> && part < shape.depth)
    sums = sums_memory.at_least<float>(shape.rows * shape.columns);
  int64_t k = 0;
  for (; k + part < shape.depth; k += part)
    part_of<In>(pool, x, w, k ? sums : nullptr, sums, shape, k, part);
  part_of<In>(pool, x, w, k ? sums : nullptr, out, shape, k, shape.depth - k);
}

template <typename In, typename Out>
void dot(ffi::ThreadPool& pool, const typename In::Element* x, const typename In::Element* w,
         Out* out, Shape shape) {
  if (shape.rows <= kFewRows && !shape.by_columns)
    stream<In>(pool, x, w, out, shape.rows, shape.columns, shape.depth);
  else
    product<In>(pool, x, w, out, shape);
}

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
