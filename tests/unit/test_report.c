/* SPDX-License-Identifier: Apache-2.0 */
/* test_report.c: parts of a report: codes of every type against the decoding kernels, places of
 * names, text that files brought. The page as a whole: tests/cli/report.sh. */
#include "kernel/blocks_k.h"
#include "kernel/iq_tables.h"
#include "kernel/kernel.h"
#include "ops/report_internal.h"
#include "test.h"
#include <math.h>

enum { BLOCKS = 64, VALUES = BLOCKS * 256 };

/* ---- codes: random blocks whose scales are all one number are decoded, and each value is turned
 *      back into the code that it must come from ---- */

static const u16 f16_one = 0x3c00;

static void set_scales(lb_dtype t, u8 *p) {
    switch (t) {
    case LB_Q2_K: /* sc 1, m 0 */
        memset(p, 1, 16);
        lb_store_u16(p + 80, f16_one);
        lb_store_u16(p + 82, 0);
        break;
    case LB_Q3_K: /* 33: the lower half of all 1, the upper of all 2 */
        memset(p + 96, 0x11, 8);
        memset(p + 104, 0xaa, 4);
        lb_store_u16(p + 108, f16_one);
        break;
    case LB_Q4_K:
    case LB_Q5_K:
        lb_store_u16(p, f16_one);
        lb_store_u16(p + 2, 0);
        memset(p + 4, 1, 4);
        memset(p + 8, 0, 4);
        memset(p + 12, 1, 4);
        break;
    case LB_Q6_K:
        memset(p + 192, 1, 16);
        lb_store_u16(p + 208, f16_one);
        break;
    case LB_Q8_K:
        lb_store_u32(p, lb_f32_bits(1));
        break;
    case LB_IQ4_XS: /* 33 */
        lb_store_u16(p, f16_one);
        lb_store_u16(p + 2, 0xaaaa);
        memset(p + 4, 0x11, 4);
        break;
    case LB_TQ1_0:
        lb_store_u16(p + 52, f16_one);
        break;
    case LB_TQ2_0:
        lb_store_u16(p + 64, f16_one);
        break;
    case LB_MXFP4:
        p[0] = 127;
        break;
    case LB_NVFP4:
        memset(p, 0x38, 4);
        break;
    case LB_IQ2_XXS:
        lb_store_u16(p, f16_one);
        for (u32 g = 0; g < 8; g++)
            p[2 + 8 * g + 7] &= 0x0f;
        break;
    case LB_IQ2_XS:
        memset(p + 66, 0, 8);
        break;
    case LB_IQ2_S:
        memset(p + 74, 0, 8);
        break;
    case LB_IQ3_XXS:
        for (u32 g = 0; g < 8; g++)
            p[66 + 4 * g + 3] &= 0x0f;
        break;
    case LB_IQ3_S:
        memset(p + 106, 0, 4);
        break;
    case LB_IQ1_S:
        for (u32 g = 0; g < 8; g++)
            p[34 + 2 * g + 1] &= 0x8f;
        break;
    case LB_IQ1_M: /* d's nibbles above, 0 below */
        for (u32 i = 0; i < 4; i++)
            lb_store_u16(p + 48 + 2 * i, (u16)((f16_one >> (4 * i) & 15) << 12));
        return;
    default:
        break;
    }
    if (t == LB_Q4_1 || t == LB_Q5_1)
        lb_store_u16(p + 2, 0);
    if (lb_dtype_get(t)->block_elems < 256 && t != LB_MXFP4 && t != LB_NVFP4)
        lb_store_u16(p, f16_one);
    if (t >= LB_IQ2_XXS && t <= LB_IQ1_S)
        lb_store_u16(p, f16_one);
    if (t == LB_IQ2_S || t == LB_IQ3_S)
        lb_store_u16(p, f16_one);
}

/* The point of a codebook whose magnitudes are those of v / scale; -1: none. */
static i32 find_point(lb_dtype t, const float *v, u32 n) {
    float scale = t == LB_IQ3_S ? 1 : t == LB_IQ3_XXS ? 0.25f : 0.125f;
    u32 n_points = t == LB_IQ2_XXS || t == LB_IQ3_XXS ? 256
                   : t == LB_IQ2_S                    ? 1024
                   : n == 8 && t != LB_IQ2_XS         ? 2048
                                                      : 512;
    bool ternary = t == LB_IQ1_S || t == LB_IQ1_M;
    for (u32 k = 0; k < n_points; k++) {
        u64 point = t == LB_IQ2_XXS   ? lb_iq2xxs_grid[k]
                    : t == LB_IQ2_XS  ? lb_iq2xs_grid[k]
                    : t == LB_IQ2_S   ? lb_iq2s_grid[k]
                    : t == LB_IQ3_XXS ? lb_iq3xxs_grid[k]
                    : t == LB_IQ3_S   ? lb_iq3s_grid[k]
                                      : lb_iq1s_grid[k];
        bool plus = true, minus = true;
        for (u32 j = 0; j < n; j++) {
            i32 g = ternary ? (i8)(point >> 8 * j & 255) : (i32)(point >> 8 * j & 255);
            plus &= ternary ? v[j] == (float)g + 0.125f : fabsf(v[j]) == (float)g * scale;
            minus &= ternary ? v[j] == (float)g - 0.125f : fabsf(v[j]) == (float)g * scale;
        }
        if (plus || minus)
            return (i32)k;
    }
    return -1;
}

static i32 find_code(lb_dtype t, float v, const lb_report_hist *h) {
    static const float e2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    if (h->signed_magnitude) /* -0 is stored, and decoded as 0 */
        for (i32 i = 0; i < 8; i++) {
            if (v == e2m1[i] && (i || !signbit(v)))
                return 8 + i;
            if (v == -e2m1[i])
                return 7 - i;
        }
    if (t == LB_IQ4_NL || t == LB_IQ4_XS)
        for (i32 i = 0; i < 16; i++)
            if (v == (float)lb_iq4_values[i])
                return i;
    if (t == LB_Q1_0)
        return v > 0;
    return (i32)v + h->zero;
}

static void check_type(const lb_kernels *k, lb_dtype t, lb_report_hist *h, u64 *want) {
    static u8 blocks[BLOCKS * 292];
    static float v[VALUES];
    const lb_dtype_info *d = lb_dtype_get(t);
    bool points = h->points, three = t == LB_IQ3_XXS || t == LB_IQ3_S;
    u32 n = points ? three ? 4 : 8 : 1;
    for (u32 i = 0; i < BLOCKS * d->block_bytes; i++)
        blocks[i] = (u8)lb_test_rand();
    for (u32 i = 0; i < BLOCKS; i++)
        set_scales(t, blocks + i * d->block_bytes);
    for (u32 i = 0; i < BLOCKS && h->signed_magnitude;
         i++) /* code 8 decodes to 0: it is left out */
        for (u32 b = t == LB_MXFP4 ? 1 : 4; b < d->block_bytes; b++) {
            u8 *p = blocks + i * d->block_bytes + b;
            *p = (u8)((*p & 15) == 8 ? *p ^ 1 : *p);
            *p = (u8)(*p >> 4 == 8 ? *p ^ 16 : *p);
        }
    lb_kernels_decode(k, t)(BLOCKS * d->block_elems, v, blocks);
    for (u32 i = 0; i < BLOCKS * d->block_elems; i += n) {
        i32 c = points ? find_point(t, v + i, n) : find_code(t, v[i], h);
        CHECK(c >= 0 && c < (i32)h->n_codes);
        want[c]++;
    }
    lb_report_count_blocks(t, blocks, BLOCKS, h);
}

LB_TEST(codes_of_every_type) {
    static lb_report_hist h;
    static u64 want[LB_REPORT_CODES_MAX];
    lb_kernels k;
    u32 n_types = 0;
    lb_kernels_init(&k, 0);
    for (u32 t = 0; t < LB_DTYPE_COUNT; t++) {
        if (lb_dtype_get((lb_dtype)t)->cls != LB_CLASS_BLOCK)
            continue;
        memset(&h, 0, sizeof h);
        memset(want, 0, sizeof want);
        CHECK(lb_report_codes_of((lb_dtype)t, &h));
        check_type(&k, (lb_dtype)t, &h, want);
        for (u32 i = 0; i < LB_REPORT_CODES_MAX; i++)
            if (h.codes[i] != want[i]) {
                lb_test_fail(__FILE__, __LINE__, "%s: code %u counted %llu times, not %llu",
                             lb_dtype_get((lb_dtype)t)->name, i, (unsigned long long)h.codes[i],
                             (unsigned long long)want[i]);
                return;
            }
        /* every scale is the same power of two */
        u64 n = 0, most = 0;
        for (u32 i = 0; i < LB_REPORT_LOG_BINS; i++) {
            n += h.scales.n[i];
            most = LB_MAX(most, h.scales.n[i]);
        }
        CHECK(n >= BLOCKS && n == most && h.scales.n_zero == 0 && h.scales.n_bad == 0);
        n_types++;
    }
    CHECK_U64(n_types, 27);
}

LB_TEST(bits) {
    static lb_report_hist h;
    for (u32 bits = 1; bits <= 8; bits++) {
        u8 bytes[64] = {0};
        memset(&h, 0, sizeof h);
        for (u32 i = 0; i < 37; i++) { /* 0, 1, 2... from the lowest bit on */
            u32 code = i % (1u << bits);
            for (u32 b = 0; b < bits; b++)
                bytes[(i * bits + b) / 8] |= (u8)((code >> b & 1) << (i * bits + b) % 8);
        }
        lb_report_count_bits(bytes, 37, bits, &h);
        for (u32 c = 0; c < 256; c++) {
            u64 want = 0;
            for (u32 i = 0; i < 37; i++)
                want += i % (1u << bits) == c;
            CHECK_U64(h.codes[c], want);
        }
    }
}

LB_TEST(log_bins) {
    CHECK_U64(lb_report_log_bin(0x1p-149f), 0);
    CHECK_U64(lb_report_log_bin(0x3p-149f), 3); /* 1.5 times 2^-148 */
    CHECK_U64(lb_report_log_bin(0x1p-127f), 44);
    CHECK_U64(lb_report_log_bin(0x1p-126f), 46);
    CHECK_U64(lb_report_log_bin(1), LB_REPORT_LOG_ZERO);
    CHECK_U64(lb_report_log_bin(1.41421353f), LB_REPORT_LOG_ZERO); /* the last below */
    CHECK_U64(lb_report_log_bin(1.41421366f), LB_REPORT_LOG_ZERO + 1);
    CHECK_U64(lb_report_log_bin(0x1.fffffep127f), LB_REPORT_LOG_BINS - 1);
    lb_report_logs l = {0};
    lb_report_logs_add(&l, -1);
    lb_report_logs_add(&l, -0.0f);
    lb_report_logs_add(&l, NAN);
    lb_report_logs_add(&l, -INFINITY);
    CHECK(l.n[LB_REPORT_LOG_ZERO] == 1 && l.n_zero == 1 && l.n_bad == 2);
}

/* ---- names ---- */

LB_TEST(places) {
    const struct {
        const char *name, *prefix, *role;
        u64 layer;
    } rows[] = {
        {"model.layers.3.mlp.up_proj.weight", "model.layers", "mlp.up_proj", 3},
        {"blk.12.attn_q.bias", "blk", "attn_q.bias", 12},
        {"model.layers.0.mlp.experts.17.w1.weight", "model.layers", "mlp.experts.*.w1", 0},
        {"token_embd.weight", "", "token_embd", UINT64_MAX},
        {"weight", "", "weight", UINT64_MAX},
        {".weight", "", ".weight", UINT64_MAX},
        {"a.1", "", "a.*", UINT64_MAX}, /* nothing behind the number */
        {"a.1.", "a", "", 1},
        {"1.a", "", "*.a", UINT64_MAX}, /* nothing before it */
        {"h2.3x.a", "", "h2.3x.a", UINT64_MAX},
        {"x.99999999999999999999.a", "", "x.*.a", UINT64_MAX},
        {"x.18446744073709551615.y.2.z", "x.18446744073709551615.y", "z", 2},
        {"", "", "", UINT64_MAX},
    };
    lb_arena perm = {0};
    for (u32 i = 0; i < LB_LEN(rows); i++) {
        lb_str prefix, role;
        u64 layer;
        bool layered = lb_report_place(lb_str_c(rows[i].name), &prefix, &layer, &role, &perm);
        CHECK(layered == (rows[i].layer != UINT64_MAX) && layer == rows[i].layer);
        CHECK_STR(prefix, rows[i].prefix);
        CHECK_STR(role, rows[i].role);
    }
    lb_arena_deinit(&perm);
}

static lb_str name_of(lb_arena *perm, const char *prefix, u32 layer, u32 role) {
    return lb_arena_printf(perm, "%s.%u.r%u.weight", prefix, layer, role);
}

/* Many layers share columns, many roles a row, many stacks count as outside. */
LB_TEST(axis_is_bounded) {
    enum { LAYERS = 1000, ROLES = 60, STACKS = 10 };
    u64 n = 0;
    lb_arena perm = {0};
    lb_err err = {0};
    lb_report_axis a;
    lb_report_item *items = lb_arena_new(&perm, lb_report_item, LAYERS * ROLES + STACKS + 1);
    for (u32 l = 0; l < LAYERS; l++)
        for (u32 r = 0; r < ROLES; r++)
            items[n++] = (lb_report_item){.name = name_of(&perm, "m", 3 * l, r), .n_params = r + 1};
    for (u32 s = 0; s < STACKS; s++) {
        lb_str prefix = lb_arena_printf(&perm, "s%u", s);
        items[n++] = (lb_report_item){.name = name_of(&perm, prefix.ptr, 0, 0), .n_params = s};
    }
    items[n++] = (lb_report_item){.name = LB_STR("head"), .n_params = 1};
    CHECK_OK(lb_report_axis_build(&a, items, n, &perm, &err));
    CHECK(a.n_slots <= LB_REPORT_SLOTS_MAX + LB_REPORT_GROUPS_MAX);
    CHECK_U64(a.n_roles, LB_REPORT_ROLES_MAX);
    CHECK_U64(a.n_roles_merged, ROLES + 1 - (LB_REPORT_ROLES_MAX - 1));
    CHECK_U64(a.n_groups, LB_REPORT_GROUPS_MAX);
    CHECK_U64(a.n_groups_merged, STACKS + 1 - LB_REPORT_GROUPS_MAX);
    CHECK_STR(a.groups[0].prefix, "m");
    CHECK_STR(a.groups[1].prefix, "s9");
    CHECK_U64(a.groups[0].n_layers, LAYERS);
    CHECK_U64(a.groups[0].per_slot, 7); /* 1003 layers to 159 columns */
    CHECK_STR(a.roles[0], "r59");
    for (u64 i = 0; i < n; i++) {
        const lb_report_slot *s = &a.slots[items[i].slot];
        CHECK(items[i].role < a.n_roles && items[i].slot < a.n_slots);
        CHECK(s->group == items[i].group);
        CHECK(s->group == UINT32_MAX || (items[i].layer >= s->first && items[i].layer <= s->last));
    }
    CHECK_U64(items[0].role, LB_REPORT_ROLES_MAX - 1); /* r0: one of the smallest */
    CHECK_U64(items[n - 1].slot, 0);
    lb_arena_deinit(&perm);
}

/* ---- text ---- */

LB_TEST(text_cannot_leave_its_element) {
    const struct {
        lb_str in;
        const char *out;
    } rows[] = {
        {LB_STR("<script>\"a\"&'b'</script>"),
         "&lt;script&gt;&quot;a&quot;&amp;&#39;b&#39;&lt;/script&gt;"},
        {LB_STR("a\0b\n\x1b[2J\x7f"), "a\\x00b\\x0a\\x1b[2J\\x7f"},
        {LB_STR("\xff\xc0\x80\xe2\x82"), "\\xff\\xc0\\x80\\xe2\\x82"},
        {LB_STR("\xed\xa0\x80"), "\\xed\\xa0\\x80"}, /* a surrogate */
        {LB_STR("\xe2\x80\xaetxt.\xef\xbb\xbf\xef\xbf\xbe\xc2\x85"),
         "\\u202etxt.\\ufeff\\ufffe\\u0085"},
        {LB_STR("\xc3\xa9\xe6\xa8\xa1\xf0\x9f\xa6\x99"), "\xc3\xa9\xe6\xa8\xa1\xf0\x9f\xa6\x99"},
    };
    for (u32 i = 0; i < LB_LEN(rows); i++) {
        lb_buf b = {0};
        lb_html_text(&b, rows[i].in);
        CHECK_STR(lb_buf_str(&b), rows[i].out);
        lb_buf_deinit(&b);
    }
}

LB_TEST(long_names_are_cut) {
    char name[3 * 400];
    lb_buf b = {0};
    for (u32 i = 0; i < 400; i++)
        memcpy(name + 3 * i, i == 399 ? "\xe6\xa8\xa2" : "\xe6\xa8\xa1", 3);
    lb_html_name(&b, (lb_str){name, sizeof name});
    CHECK_U64(b.len, 3 * LB_REPORT_NAME_CHARS);
    CHECK(memcmp(b.ptr + 3 * (LB_REPORT_NAME_CHARS / 2), "\xe2\x80\xa6", 3) == 0);
    CHECK(memcmp(b.ptr + b.len - 3, "\xe6\xa8\xa2", 3) == 0);
    lb_buf_reset(&b);
    lb_html_cut(&b, LB_STR("abcdefghij"), 10);
    CHECK_STR(lb_buf_str(&b), "abcdefghij");
    lb_buf_reset(&b);
    lb_html_cut(&b, LB_STR("abcdefghijk"), 10);
    CHECK_STR(lb_buf_str(&b), "abcde\xe2\x80\xa6hijk");
    lb_buf_reset(&b);
    lb_html_digits(&b, 1234567);
    lb_html_digits(&b, 0);
    CHECK_STR(lb_buf_str(&b), "1,234,5670");
    lb_buf_deinit(&b);
}

LB_TEST_MAIN("fast")
