// SPDX-License-Identifier: Apache-2.0
// metal_host.cpp: runs the quantizers of mlx's Metal kernels on the host: a stand-in for the few words of Metal
// that they use. quant_peers.py cuts affine.inc, fp.inc, fp4.inc and fp8.inc out of the installed wheel's headers.
//
// A simdgroup is 32 lanes that exchange values. Here a kernel runs lane by lane, again and again: in run r the first
// r exchanges of each lane have their results, which the runs before have collected; the last run knows all.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#define device
#define constant
#define thread
#define kernel
#pragma GCC diagnostic ignored "-Wattributes"
#pragma GCC diagnostic ignored "-Wunknown-pragmas"

typedef unsigned int uint;
typedef unsigned short ushort;
struct uint2 {
    uint x, y;
};

static float f32(uint32_t b) {
    float f;
    memcpy(&f, &b, 4);
    return f;
}
static uint32_t bits(float f) {
    uint32_t b;
    memcpy(&b, &f, 4);
    return b;
}

struct half {
    uint16_t h;
    half() = default;
    half(float x) {
        const uint32_t sign = bits(x) >> 16 & 0x8000, a = bits(x) & 0x7fffffff;
        if (a > 0x7f800000)
            h = uint16_t(sign | 0x7e00);
        else if (a >= 0x477ff000)
            h = uint16_t(sign | 0x7c00);
        else if (a < 0x38800000)
            h = uint16_t(sign | (bits(f32(a) + 0.5f) - 0x3f000000));
        else
            h = uint16_t(sign | ((a + 0xfff + (a >> 13 & 1)) - (112u << 23)) >> 13);
    }
    operator float() const {
        const uint32_t sign = uint32_t(h & 0x8000) << 16, m = h & 0x7fff;
        const float a = m >= 0x7c00  ? f32(0x7f800000 | m << 13)
                        : m < 0x400 ? float(m) * 0x1p-24f
                                    : f32((m << 13) + (112u << 23));
        return f32(bits(a) | sign);
    }
    half operator-() const {
        half r = *this;
        r.h ^= 0x8000;
        return r;
    }
    half &operator*=(double x) {
        return *this = half(float(*this) * float(x));
    }
};
struct bfloat16_t {
    uint16_t h;
    bfloat16_t() = default;
    bfloat16_t(float x) {
        const uint32_t b = bits(x);
        h = (b & 0x7fffffff) > 0x7f800000 ? uint16_t(b >> 16 | 0x40) : uint16_t((b + 0x7fff + (b >> 16 & 1)) >> 16);
    }
    operator float() const {
        return f32(uint32_t(h) << 16);
    }
};
typedef half float16_t;

template <typename A, typename B> A as_type(B b) {
    static_assert(sizeof(A) == sizeof(B), "as_type");
    A a;
    memcpy(&a, &b, sizeof a);
    return a;
}
template <typename T> struct Limits {
    static constexpr float max = std::numeric_limits<float>::infinity();
};

static struct {
    int run, lane, next;                 // exchanges below `run` are known; `next` is the lane's next one
    float value[256][32], result[256][32]; // what each lane gave to and got from an exchange
} simd;

template <typename Combine> static float exchange(float x, Combine combine) {
    const int n = simd.next++;
    if (n < simd.run)
        return simd.result[n][simd.lane];
    if (n == simd.run) {
        simd.value[n][simd.lane] = x;
        if (simd.lane == 31)
            for (int lane = 0; lane < 32; lane++)
                simd.result[n][lane] = combine(simd.value[n], lane);
    }
    return x;
}

namespace metal {
using std::conditional_t;
inline bool isnan(float x) { return std::isnan(x); }
inline bool isfinite(float x) { return std::isfinite(x); }
inline bool signbit(float x) { return std::signbit(x); }
inline float abs(float x) { return std::fabs(x); }
inline float round(float x) { return std::round(x); }
inline float log2(float x) { return std::log2(x); }
// fmin and fmax; the C library's give NaN for a signalling NaN.
inline float min(float x, float y) { return x != x || y < x ? y : x; }
inline float max(float x, float y) { return x != x || x < y ? y : x; }
inline float simd_min(float x) {
    return exchange(x, [](const float *v, int) {
        float m = v[0];
        for (int i = 1; i < 32; i++)
            m = min(m, v[i]);
        return m;
    });
}
inline float simd_max(float x) {
    return exchange(x, [](const float *v, int) {
        float m = v[0];
        for (int i = 1; i < 32; i++)
            m = max(m, v[i]);
        return m;
    });
}
inline uint8_t simd_shuffle_down(uint8_t x, int by) {
    return uint8_t(exchange(x, [by](const float *v, int lane) { return v[lane + by < 32 ? lane + by : lane]; }));
}
} // namespace metal

namespace mlx {
using namespace metal;
#include "fp4.inc"
#include "fp8.inc"
#include "affine.inc"
#include "fp.inc"
} // namespace mlx

// 32 lanes from thread `first` on until all exchanges are known.
template <typename F> static void simdgroup(F run_lane) {
    int n = 0;
    for (simd.run = 0;; simd.run++) {
        for (simd.lane = 0; simd.lane < 32; simd.lane++) {
            simd.next = 0;
            run_lane(uint(simd.lane));
            n = simd.next;
        }
        if (simd.run == n)
            return;
    }
}

// One simdgroup is one group (affine, mx) or two (nvfp4).
template <typename T, int group, int bits>
static void affine(size_t n_groups, const T *w, uint8_t *out, T *scales, T *biases) {
    for (size_t g = 0; g < n_groups; g++)
        simdgroup([=](uint lane) {
            mlx::affine_quantize<T, group, bits>(w + g * group, out + g * group * bits / 8, scales + g, biases + g,
                                                 {lane, 0}, {32, 1});
        });
}
template <typename T, int group, int bits, bool has_global>
static void fp(size_t n_groups, const T *w, uint8_t *out, uint8_t *scales, float global) {
    for (size_t i = 0; i < n_groups * group; i += 32)
        simdgroup([=, &global](uint lane) {
            mlx::fp_quantize<T, group, bits, has_global>(w + i, out + i * bits / 8, scales + i / group, &global,
                                                         {lane, 0}, {32, 1}, lane);
        });
}

template <typename T, int group>
static int affine_bits(int bits, size_t n, const void *w, void *out, void *scales, void *biases) {
    switch (bits) {
#define CASE(b)                                                                            \
    case b:                                                                                \
        affine<T, group, b>(n, (const T *)w, (uint8_t *)out, (T *)scales, (T *)biases); \
        return 0;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(8)
    }
    return 1;
}
template <typename T>
static int run(int mode, int group, size_t n, const void *w, void *out, void *scales, void *biases, float global) {
    if (group == 128)
        return affine_bits<T, 128>(mode, n, w, out, scales, biases);
    if (group == 64)
        return affine_bits<T, 64>(mode, n, w, out, scales, biases);
    if (mode == 104)
        fp<T, 32, 4, false>(n, (const T *)w, (uint8_t *)out, (uint8_t *)scales, 0);
    else if (mode == 108)
        fp<T, 32, 8, false>(n, (const T *)w, (uint8_t *)out, (uint8_t *)scales, 0);
    else if (mode == 116 && global == 0)
        fp<T, 16, 4, false>(n, (const T *)w, (uint8_t *)out, (uint8_t *)scales, 0);
    else if (mode == 116)
        fp<T, 16, 4, true>(n, (const T *)w, (uint8_t *)out, (uint8_t *)scales, global);
    else
        return affine_bits<T, 32>(mode, n, w, out, scales, biases);
    return 0;
}

// mode: bits of an affine group, 104 mxfp4, 108 mxfp8, 116 nvfp4 (an even number of groups); type: 0 f32, 1 bf16, 2 f16.
extern "C" int metal_quantize(int mode, int group, int type, size_t n_groups, const void *w, void *out, void *scales,
                              void *biases, float global) {
    return type == 0   ? run<float>(mode, group, n_groups, w, out, scales, biases, global)
           : type == 1 ? run<bfloat16_t>(mode, group, n_groups, w, out, scales, biases, global)
                       : run<half>(mode, group, n_groups, w, out, scales, biases, global);
}
