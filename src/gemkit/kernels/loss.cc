// Cross-entropy over a vocabulary and its gradient by the states, in one reading of the table.
//
// The gradient of a row's loss is the mean of the table's rows under the row's softmax, less the
// target's row: attention of the states over the table (Dao et al. 2022, arXiv:2205.14135). A block
// of the vocabulary is multiplied, exponentiated under the maximum so far and multiplied again
// while it lies in a core's cache, so no logits are written to memory.

#include <cmath>
#include <limits>
#include <vector>

#include "tiles.h"

namespace {

// Rows of the table taken at once, and what a task holds of states and of their gradients.
constexpr int64_t kColumns = 128, kMostRows = 512, kHeldWords = 1 << 19;

thread_local Scratch states_memory, strip_memory, logits_memory, shares_memory, panels_memory,
    sums_memory;

struct Problem {
  int64_t width, vocabulary;
  float cap;
  const int32_t* targets;
  const float* weights;
  float *losses, *right;
};

// e to the power of x, 0 or less; not-a-number stays one.
__m512 exponential(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
  // The logarithm of 2 in two parts, the first so short that n times it is exact.
  __m512 f = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  f = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), f);
  __m512 sum = _mm512_set1_ps(1.0f / 5040);
  for (float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f})
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(term));
  return _mm512_scalef_ps(sum, n);
}

// cap * tanh(x / cap), and its derivative.
__m512 capped(__m512 x, float cap, __m512* slope) {
  __m512 y = _mm512_div_ps(_mm512_abs_ps(x), _mm512_set1_ps(cap)), one = _mm512_set1_ps(1.0f);
  __m512 e = exponential(_mm512_mul_ps(y, _mm512_set1_ps(-2.0f)));
  __m512 whole = _mm512_add_ps(one, e);
  __m512 t = _mm512_div_ps(_mm512_sub_ps(one, e), whole);
  *slope = _mm512_div_ps(_mm512_mul_ps(_mm512_set1_ps(4.0f), e), _mm512_mul_ps(whole, whole));
  __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
  return _mm512_or_ps(_mm512_mul_ps(t, _mm512_set1_ps(cap)), sign);
}

__m512 as_floats(const float* p, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
__m512 as_floats(const Bf16* p, __mmask16 lanes) {
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

// One row's softmax so far.
struct Row {
  int64_t at, target;  // its number; the token
  float most = -std::numeric_limits<float>::infinity(), sum = 0, picked = 0, picked_slope = 1;

  // Takes the logits of a block, which begins at `from`; leaves their shares, e to the power of
  // logit less maximum, times the cap's slope; 0 for the target, whose share less 1 would be lost
  // in the rounding. What was summed before is to be multiplied by the result.
  template <typename Element>
  float take(const Problem& of, float* logits, Element* shares, int64_t from, int64_t count) {
    __m512 top = _mm512_set1_ps(most);
    __m512 slopes[kColumns / 16];
    int64_t vectors = (count + 15) / 16;
    for (int64_t i = 0; i < vectors; ++i) {
      __mmask16 lanes = first(count - i * 16);
      __m512 x = _mm512_loadu_ps(logits + i * 16);
      if (of.cap) _mm512_storeu_ps(logits + i * 16, x = capped(x, of.cap, slopes + i));
      top = _mm512_mask_max_ps(top, lanes, top, x);
    }
    float before = most, now = _mm512_reduce_max_ps(top);
    __m512 highest = _mm512_set1_ps(now), added = _mm512_setzero_ps();
    for (int64_t i = 0; i < vectors; ++i) {
      __mmask16 lanes = first(count - i * 16);
      __m512 x = _mm512_loadu_ps(logits + i * 16);
      __m512 share = _mm512_maskz_mov_ps(lanes, exponential(_mm512_sub_ps(x, highest)));
      added = _mm512_add_ps(added, share);
      if (of.cap) share = _mm512_maskz_mul_ps(lanes, share, slopes[i]);
      store(shares + i * 16, share, 0xffff);
    }
    if (target >= from && target < from + count) {
      picked = logits[target - from];
      if (of.cap) picked_slope = reinterpret_cast<float*>(slopes)[target - from];
      store_one(shares + target - from, 0);
    }
    most = now;
    float kept = before < now ? std::exp(before - now) : 1.0f;
    sum = sum * kept + _mm512_reduce_add_ps(added);
    return kept;
  }
};

// The loss of `count` rows, and the slopes of their weighted losses if `slopes` is not null.
template <typename In>
void losses_of(const Problem& of, const typename In::Element* x, const typename In::Element* table,
               typename In::Element* slopes, const int64_t* numbers, int64_t count) {
  using Element = typename In::Element;
  constexpr int64_t each = In::width / 16, wide = kColumns / each;
  int64_t width = of.width, words = (width + each - 1) / each;
  std::vector<Row> rows(count);
  Word* states = states_memory.at_least<Word>(count * words);
  Word* strip = strip_memory.at_least<Word>(std::max(words, wide) * kStrip);
  float* logits = logits_memory.at_least<float>(count * kColumns);
  Element* shares = shares_memory.at_least<Element>(kRows * kColumns);
  Word* panels = panels_memory.at_least<Word>(count * wide);
  float* sums = sums_memory.at_least<float>(slopes ? count * width : 1);
  if (slopes) std::fill(sums, sums + count * width, 0.0f);
  for (int64_t i = 0; i < count; ++i) {
    rows[i].at = numbers[i];
    rows[i].target = std::clamp<int64_t>(of.targets[numbers[i]], 0, of.vocabulary - 1);
  }
  for (int64_t r = 0; r < count; r += kRows) {
    auto row = [=](int64_t i) { return x + numbers[r + i] * width; };
    panel_of<In>(row, states + r * words, std::min(kRows, count - r), width);
  }
  for (int64_t from = 0; from < of.vocabulary; from += kColumns) {
    int64_t here = std::min(kColumns, of.vocabulary - from), deep = (here + each - 1) / each;
    const Element* block = table + from * width;
    for (int64_t c = 0; c < here; c += kStrip) {
      int64_t columns = std::min(kStrip, here - c);
      strip_of_rows<In>(block + c * width, strip, columns, width, width);
      for (int64_t r = 0; r < count; r += kRows)
        tile_of<In, float>(std::min(kRows, count - r))(
            states + r * words, strip, words, kStrip, nullptr, 0, logits + r * kColumns + c,
            kColumns);
    }
    for (int64_t r = 0; r < count; r += kRows) {
      int64_t taken = std::min(kRows, count - r);
      for (int64_t i = r; i < r + taken; ++i) {
        float kept = rows[i].take(of, logits + i * kColumns, shares + (i - r) * kColumns, from, here);
        if (slopes && kept != 1.0f)
          for (int64_t k = 0; k < width; ++k) sums[i * width + k] *= kept;
      }
      auto row = [=](int64_t i) { return shares + i * kColumns; };
      if (slopes) panel_of<In>(row, panels + r * deep, taken, here);
    }
    for (int64_t c = 0; slopes && c < width; c += kStrip) {
      int64_t columns = std::min(kStrip, width - c);
      strips_of_columns(block + c, strip, columns, here, width);
      for (int64_t r = 0; r < count; r += kRows) {
        float* out = sums + r * width + c;
        tile_of<In, float>(std::min(kRows, count - r))(
            panels + r * deep, strip, deep, columns, out, width, out, width);
      }
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const Row& row = rows[i];
    of.losses[row.at] = row.most - row.picked + std::log(row.sum);
    of.right[row.at] = row.picked >= row.most;
    if (!slopes) continue;
    float weight = of.weights[row.at], share = weight / row.sum;
    float less = weight * row.picked_slope * (1 - std::exp(row.picked - row.most) / row.sum);
    const Element* target = table + row.target * width;
    for (int64_t k = 0; k < width; k += 16) {
      __mmask16 lanes = first(width - k);
      __m512 slope = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, sums + i * width + k),
                                   _mm512_set1_ps(share));
      slope = _mm512_fnmadd_ps(as_floats(target + k, lanes), _mm512_set1_ps(less), slope);
      store(slopes + row.at * width + k, slope, lanes);
    }
  }
}

template <typename In>
void losses(ffi::ThreadPool& pool, const Problem& of, const typename In::Element* x,
            const typename In::Element* table, typename In::Element* slopes, int64_t count) {
  // Rows without weight, which pad a batch, are left out.
  std::vector<int64_t> numbers;
  for (int64_t r = 0; r < count; ++r) {
    of.losses[r] = of.right[r] = 0;
    if (of.weights[r] != 0) numbers.push_back(r);
    else if (slopes) std::memset(slopes + r * of.width, 0, of.width * sizeof(*slopes));
  }
  if (numbers.empty()) return;
  int64_t held = std::max(kRows, std::min(kMostRows, kHeldWords / of.width));
  int64_t threads = std::max<int64_t>(1, pool.num_threads()), total = numbers.size();
  int64_t tasks = (total + held - 1) / held;
  tasks = (tasks + threads - 1) / threads * threads;
  int64_t panels = (total + kRows - 1) / kRows;
  int64_t per_task = std::max<int64_t>(1, (panels + tasks - 1) / tasks) * kRows;
  parallel(pool, (total + per_task - 1) / per_task, [&](int64_t task) {
    int64_t from = task * per_task;
    losses_of<In>(of, x, table, slopes, numbers.data() + from, std::min(per_task, total - from));
  });
}

ffi::Error Loss(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer table,
                ffi::Buffer<ffi::S32> targets, ffi::Buffer<ffi::F32> weights,
                ffi::Result<ffi::Buffer<ffi::F32>> losses_out,
                ffi::Result<ffi::Buffer<ffi::F32>> right, ffi::Result<ffi::AnyBuffer> slopes,
                float cap) {
  auto xs = x.dimensions(), ts = table.dimensions();
  if (xs.size() != 2 || ts.size() != 2 || xs[1] != ts[1])
    return ffi::Error::InvalidArgument("two matrices of one width");
  ffi::AnyBuffer out = *slopes;
  auto kind = x.element_type();
  if (table.element_type() != kind || out.element_type() != kind ||
      (kind != ffi::F32 && kind != ffi::BF16))
    return ffi::Error::InvalidArgument("all in float32 or all in bfloat16");
  Problem of{ts[1], ts[0], cap, targets.typed_data(), weights.typed_data(),
             losses_out->typed_data(), right->typed_data()};
  bool wanted = out.size_bytes() > 0;
  if (kind == ffi::F32)
    losses<FromFloat>(pool, of, data<float>(x), data<float>(table),
                      wanted ? data<float>(out) : nullptr, xs[0]);
  else
    losses<FromBf16>(pool, of, data<Bf16>(x), data<Bf16>(table),
                     wanted ? data<Bf16>(out) : nullptr, xs[0]);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemkit_loss, Loss,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<float>("cap"));
