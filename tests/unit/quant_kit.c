/* SPDX-License-Identifier: Apache-2.0 */
/* quant_kit.c: see the header. */
#include "quant_kit.h"
#include "kernel/half.h"
#include <stdlib.h>

static lb_k_quant_mlx_q4_fn *affine_of(const lb_kernels *k, const char *name) {
    const struct {
        const char *name;
        lb_k_quant_mlx_q4_fn *fn;
    } list[] = {{"q1", k->quant_mlx_q1}, {"q2", k->quant_mlx_q2},    {"q3", k->quant_mlx_q3},
                {"q4", k->quant_mlx_q4}, {"q5", k->quant_mlx_q5},    {"q6", k->quant_mlx_q6},
                {"q8", k->quant_mlx_q8}, {"groups", k->quant_groups}};
    for (size_t i = 0; i < LB_LEN(list); i++)
        if (!strcmp(name, list[i].name))
            return list[i].fn;
    return NULL;
}

static lb_k_quant_mlx_mxfp4_fn *fp_of(const lb_kernels *k, const char *name) {
    return !strcmp(name, "mxfp4")   ? k->quant_mlx_mxfp4
           : !strcmp(name, "mxfp8") ? k->quant_mlx_mxfp8
           : !strcmp(name, "nvfp4") ? k->quant_mlx_nvfp4
                                    : NULL;
}

static void out_new(quant_out *o, size_t n_codes, size_t n_scale, size_t n_second) {
    *o = (quant_out){.n_codes = n_codes, .n_scale = n_scale, .n_second = n_second};
    o->codes = calloc(1, n_codes + 1);
    o->scale = calloc(1, n_scale + 1);
    o->second = calloc(1, n_second + 1);
    if (!o->codes || !o->scale || !o->second)
        abort();
}

void quant_out_free(quant_out *out) {
    free(out->codes);
    free(out->scale);
    free(out->second);
    *out = (quant_out){0};
}

static size_t type_bytes(u32 type) {
    return (type & 15) == LB_ROUND_NONE ? 4 : 2;
}

static u64 range_of(const lb_kernels *k, size_t n, const u8 *in, u32 type, float minmax[2]) {
    return type == LB_ROUND_NONE   ? k->fold_range_f32(n, (const float *)(const void *)in, minmax)
           : type == LB_ROUND_BF16 ? k->fold_range_bf16(n, in, minmax)
                                   : k->fold_range_f16(n, in, minmax);
}

/* One tile of a matrix, row by row: its range, its parameters, its codes. */
static u64 run_tile(const lb_kernels *k, const quant_job *j, const size_t tile[4], const u8 *in,
                    u8 *codes, float params[2]) {
    const size_t unit = type_bytes(j->how), n_cols = LB_MIN(tile[3], j->group - tile[1]);
    const size_t end = LB_MIN(tile[0] + tile[2], j->n_groups);
    const bool is_f8 = j->name[0] == 'f';
    float mm[2] = {0, 0};
    u64 n_odd = 0;
    for (size_t r = tile[0]; r < end; r++) {
        float row[2] = {0, 0};
        n_odd += range_of(k, n_cols, in + (r * j->group + tile[1]) * unit, j->how & 15, row);
        mm[0] = LB_MIN(mm[0], row[0]);
        mm[1] = LB_MAX(mm[1], row[1]);
    }
    n_odd += k->quant_params(1, &params[0], &params[1], &mm[0], &mm[1], j->how);
    for (size_t r = tile[0]; r < end; r++) {
        const size_t at = r * j->group + tile[1];
        if (is_f8)
            k->quant_f8_e4m3(n_cols, codes + at, in + at * unit,
                             j->how & LB_QUANT_TIMES ? params[1] : params[0], j->how);
        else
            k->quant_i8(n_cols, codes + at, in + at * unit, params[0], params[1], j->how);
    }
    return n_odd;
}

static void run_tiles(const lb_kernels *k, const quant_job *j, const u8 *in, quant_out *o) {
    const size_t rows = j->tile_rows ? j->tile_rows : 1;
    const size_t cols = j->tile_cols ? j->tile_cols : j->group;
    const size_t n = ((j->n_groups + rows - 1) / rows) * ((j->group + cols - 1) / cols);
    size_t i = 0;
    out_new(o, j->n_groups * j->group, 4 * n, 4 * n);
    for (size_t r = 0; r < j->n_groups; r += rows)
        for (size_t c = 0; c < j->group; c += cols, i++) {
            const size_t tile[4] = {r, c, rows, cols};
            float params[2];
            o->n_odd += run_tile(k, j, tile, in, o->codes, params);
            memcpy(o->scale + 4 * i, &params[0], 4);
            memcpy(o->second + 4 * i, &params[1], 4);
        }
}

bool quant_run(const lb_kernels *k, const quant_job *j, const void *in, quant_out *out) {
    const char *name = j->name;
    lb_k_quant_mlx_q4_fn *affine = affine_of(k, name);
    lb_k_quant_mlx_mxfp4_fn *fp = fp_of(k, name);
    const size_t n = j->n_groups, group = j->group;
    if (affine) {
        const u32 bits = name[0] == 'g' ? j->how >> 8 & 15 : (u32)(name[1] - '0');
        const size_t unit = type_bytes(j->how >> 4);
        const size_t second = name[0] == 'q' ? n * unit : j->how & LB_QUANT_ASYM ? n : 0;
        out_new(out, (n * group * bits + 31) / 32 * 4, n * unit, second);
        out->n_odd = affine(n, group, out->codes, out->scale, out->second, in, j->how);
    } else if (fp) {
        if (group != (name[0] == 'n' ? 16 : 32))
            return false;
        out_new(out, name[4] == '8' ? n * group : n * group / 2, n, 0);
        out->n_odd = fp(n, out->codes, out->scale, in, j->global_scale, j->how);
    } else if (!strcmp(name, "f8") || !strcmp(name, "i8")) {
        run_tiles(k, j, in, out);
    } else {
        return false;
    }
    return true;
}

/* ---- weights ---- */

/* splitmix64 at a place of its sequence */
static u64 random_at(u64 i) {
    u64 z = (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float normal_of(u64 z) {
    const i64 sum =
        (i64)(z & 0xffff) + (i64)(z >> 16 & 0xffff) + (i64)(z >> 32 & 0xffff) + (i64)(z >> 48);
    return (float)(sum - 131070) * 0x1p-16f;
}

static float power_of_2(i32 e) {
    return lb_f32_from_bits((u32)(e + 127) << 23);
}

/* q: the group's number; at: the value's place in it, `first` its first random number. */
static float weight(u64 z, u64 first, u64 q, u32 kind, bool hot, u32 type) {
    const float v = normal_of(z), a = lb_f32_from_bits(lb_f32_bits(v) & 0x7fffffffu);
    static const u32 odd[] = {0x7fc00000, 0x7f800000, 0xff800000};
    switch (kind) {
    case 1:
        return v * v * (v * v) * v;
    case 2:
        return normal_of(first);
    case 3:
        return lb_f32_from_bits((u32)(z >> 32) & 0x80000000u);
    case 4:
        return lb_f32_from_bits((u32)(z >> 32) & 0x807fffffu);
    case 5:
        return -a - 1;
    case 6:
        return v * power_of_2(type == LB_ROUND_F16 ? 14 : 125);
    case 7:
        return (float)((i32)(z % 61) - 30) * 0.5f * power_of_2((i32)(q % 20) - 10);
    case 8:
        return a + 0.125f;
    case 9:
        return v * power_of_2((i32)(q % 40) - 30);
    case 10:
        return v * power_of_2(-24);
    case 11:
        return hot ? lb_f32_from_bits(odd[(q >> 8) % 3]) : v;
    default:
        return v;
    }
}

u8 *quant_weights(size_t n_groups, size_t group, u32 how, bool with_odd) {
    const u32 type = how & 15;
    const size_t unit = type_bytes(type);
    u8 *out = malloc(n_groups * group * unit + 1);
    if (!out)
        abort();
    for (size_t g = 0; g < n_groups; g++) {
        const u64 q = random_at(((u64)1 << 40) + g), first = random_at(g * group);
        for (size_t i = 0; i < group; i++) {
            const bool hot = with_odd && i == q % group;
            const float x = weight(random_at(g * group + i), first, q, (u32)(g % 12), hot, type);
            u8 *at = out + (g * group + i) * unit;
            if (type == LB_ROUND_NONE)
                lb_store_u32(at, lb_f32_bits(x));
            else
                lb_store_u16(at, type == LB_ROUND_F16 ? lb_f16_from_f32(x) : lb_bf16_from_f32(x));
        }
    }
    return out;
}
