/* SPDX-License-Identifier: Apache-2.0 */
/* q8_gemm_ymm_tmpl.h: what q8_gemm_tmpl.h asks for, in registers of eight rows, by the products of
 * q8_madd_avx2.h; included by one file an instruction set. */

/* Four codes of eight rows. */
INLINE __m256i codes8(const bool wide, const u8 *p) {
    return narrow(wide, _mm256_loadu_si256((const void *)p));
}

INLINE __m256i quad(i32 x) {
    return _mm256_set1_epi32(x);
}

/* One group of eight rows, the upper ones of a panel where h is 1, with nt tokens. */
INLINE void group_of(const u32 type, const int nt, const block *b, size_t h, const place at,
                     __m256 acc[NT]) {
    const bool halves = type & LB_Q8_HALVES, wide = type & LB_Q8_WIDE;
    const int n_quads = halves ? 4 : 8;
    const u8 *const p = b->panel[0] + at.panel + 32 * h;
    const float *s = (const float *)(const void *)(p + SCALES_AT(halves));
    __m256i sum[NT];
    UNROLL for (int i = 0; i < nt; i++) sum[i] = quad(b->less[at.chunk][i][at.g]);
    UNROLL for (int q = 0; q < n_quads; q++) {
        const __m256i w = codes8(wide, p + 64 * q);
        UNROLL for (int i = 0; i < nt; i++) sum[i] =
            quads(wide, sum[i], w, quad(quad_at(b->act[i] + at.chunk, at.at, q)));
    }
    UNROLL for (int i = 0; i < nt; i++) {
        const lb_q8_act *a = b->act[i] + at.chunk;
        const __m256 d = _mm256_set1_ps((halves ? a->d16 : a->d32)[at.g]);
        acc[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[i]), _mm256_mul_ps(_mm256_loadu_ps(s), d),
                                 acc[i]);
        if (type & LB_Q8_MIN)
            acc[i] = _mm256_fmadd_ps(_mm256_loadu_ps(s + 16),
                                     _mm256_set1_ps((halves ? a->m16 : a->m32)[at.g]), acc[i]);
    }
}

INLINE void rows16(const bool halves, const bool min, const bool wide, const int nt, const block *b,
                   lanes_of lane) {
    const u32 type = (halves ? LB_Q8_HALVES : 0) | (min ? LB_Q8_MIN : 0) | (wide ? LB_Q8_WIDE : 0);
    for (size_t l = 0; l < LANES; l++) {
        const size_t at = lb_q8_at((halves ? 16 : 32) * l), bytes = GROUP_BYTES(halves);
        fetch_next(b, l);
        for (size_t h = 0; h < 2; h++) {
            size_t p = l * b->n_chunks * (halves ? 2 : 1) * bytes;
            __m256 acc[NT];
            UNROLL for (int i = 0; i < nt; i++) acc[i] = _mm256_setzero_ps();
            for (size_t c = 0; c < b->n_chunks; c++, p += bytes) {
                group_of(type, nt, b, h, (place){p, c, at, l}, acc);
                if (halves) {
                    p += bytes;
                    group_of(type, nt, b, h, (place){p, c, at + 256, l + 16}, acc);
                }
            }
            UNROLL for (int i = 0; i < nt; i++) _mm256_store_ps(lane[l][0][i] + 8 * h, acc[i]);
        }
    }
}

INLINE void second16(const bool halves, const bool min, const bool wide, const u8 *group,
                     const lb_q8_act *a, size_t g, i32 less, float sum[16]) {
    const size_t at = lb_q8_at((halves ? 16 : 32) * g);
    const int n_quads = halves ? 4 : 8;
    const float *s = (const float *)(const void *)(group + SCALES_AT(halves));
    for (int h = 0; h < 2; h++, group += 32, s += 8, sum += 8) {
        __m256i q = quad(less);
        __m256 acc = _mm256_load_ps(sum);
        UNROLL for (int i = 0; i < n_quads; i++) q =
            quads(wide, q, codes8(wide, group + 64 * i), quad(quad_at(a, at, i)));
        acc = _mm256_fmadd_ps(
            _mm256_cvtepi32_ps(q),
            _mm256_mul_ps(_mm256_loadu_ps(s), _mm256_set1_ps((halves ? a->d16 : a->d32)[g])), acc);
        if (min)
            acc = _mm256_fmadd_ps(_mm256_loadu_ps(s + 16),
                                  _mm256_set1_ps((halves ? a->m16 : a->m32)[g]), acc);
        _mm256_store_ps(sum, acc);
    }
}

INLINE void finish16(const float *lane, const size_t step, size_t n_rows, float *out) {
    _Alignas(32) float sums[16];
    for (size_t h = 0; h < 16; h += 8) {
        __m256 x[8];
        UNROLL for (size_t i = 0; i < 8; i++) x[i] = _mm256_add_ps(
            _mm256_load_ps(lane + h + i * step), _mm256_load_ps(lane + h + (i + 8) * step));
        UNROLL for (size_t i = 0; i < 4; i++) x[i] = _mm256_add_ps(x[i], x[i + 4]);
        const __m256 y = _mm256_add_ps(_mm256_add_ps(x[0], x[2]), _mm256_add_ps(x[1], x[3]));
        const __m256 nan_form = _mm256_castsi256_ps(quad((i32)LB_NAN_BITS));
        _mm256_store_ps(sums + h, _mm256_blendv_ps(y, nan_form, _mm256_cmp_ps(y, y, _CMP_UNORD_Q)));
    }
    if (n_rows == 16)
        memcpy(out, sums, sizeof sums);
    else
        memcpy(out, sums, n_rows * sizeof *sums);
}

/* Eight rows of eight words. */
INLINE void turn8(const u8 *const in[8], u8 *out, size_t out_stride) {
    __m256i x[8], y[8];
    UNROLL for (size_t i = 0; i < 8; i++) x[i] = _mm256_loadu_si256((const void *)in[i]);
    UNROLL for (size_t i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    UNROLL for (size_t i = 0; i < 8; i += 4) UNROLL for (size_t j = 0; j < 2; j++) {
        x[i + 2 * j] = _mm256_unpacklo_epi64(y[i + j], y[i + j + 2]);
        x[i + 2 * j + 1] = _mm256_unpackhi_epi64(y[i + j], y[i + j + 2]);
    }
    UNROLL for (size_t i = 0; i < 4; i++) {
        const __m256i lo = _mm256_permute2x128_si256(x[i], x[i + 4], 0x20);
        const __m256i hi = _mm256_permute2x128_si256(x[i], x[i + 4], 0x31);
        _mm256_storeu_si256((void *)(out + i * out_stride), lo);
        _mm256_storeu_si256((void *)(out + (i + 4) * out_stride), hi);
    }
}

INLINE void turn16(size_t n_rows, const u8 *in, size_t in_stride, u8 *out, size_t out_stride) {
    static const u8 none[32];
    for (size_t h = 0; h < 16; h += 8)
        for (size_t w = 0; w < 2; w++) {
            const u8 *row[8];
            for (size_t i = 0; i < 8; i++)
                row[i] = h + i < n_rows ? in + (h + i) * in_stride + 32 * w : none;
            turn8(row, out + 8 * w * out_stride + 4 * h, out_stride);
        }
}
