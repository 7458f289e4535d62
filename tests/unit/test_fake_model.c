/* SPDX-License-Identifier: Apache-2.0 */
/* test_fake_model.c: the made-up models open as what they are said to be. */
#include "base/os.h"
#include "fake_model.h"
#include "ops/open.h"
#include "test.h"
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

static lb_err err;

static const char *folder(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", lb_test_dir(), name);
    (void)lb_os_remove_tree(path, NULL);
    return path;
}

static bool read_tensor(const lb_source *s, const char *name, u8 *out, size_t cap, u64 *n) {
    const lb_tensor *t = lb_source_tensor(s, lb_str_c(name));
    int fd = -1;
    if (!t || t->size_bytes > cap)
        return false;
    bool ok = lb_os_open_read(s->files[t->file].path, &fd, &err) == LB_OK &&
              lb_os_pread(fd, "tensor", out, t->size_bytes, t->off_bytes, &err) == LB_OK;
    lb_os_close(&fd);
    *n = t->size_bytes;
    return ok;
}

static u64 count_parameters(const lb_source *s) {
    u64 n = 0;
    for (u64 i = 0; i < s->n_tensors; i++)
        n += s->tensors[i].n_elems;
    return n;
}

/* Counted by hand from the shapes of fm_tiny. */
LB_TEST(tiny_hf_folders) {
    static const u64 n_tensors[FM_FAMILIES] = {21, 27, 25, 28, 45};
    for (int f = 0; f < FM_FAMILIES; f++) {
        lb_source *s = NULL;
        fm_spec spec = fm_tiny((fm_family)f);
        const char *dir = folder("tiny");
        CHECK_OK(fm_write_hf(dir, &spec, &err));
        CHECK_OK(lb_open(&s, dir, &err));
        CHECK(s->format == LB_FORMAT_HF);
        CHECK_U64(s->n_tensors, n_tensors[f]);
        CHECK_U64(s->n_files, 1);
        const lb_tensor *k = lb_source_tensor(s, LB_STR("model.layers.1.self_attn.k_proj.weight"));
        CHECK(k && k->dtype == LB_BF16 && k->shape.rank == 2);
        CHECK(k->shape.dim[0] == 128 && k->shape.dim[1] == 256);
        CHECK((lb_source_tensor(s, LB_STR("lm_head.weight")) == NULL) == (f == FM_GEMMA3));
        lb_source_close(&s);
    }
}

LB_TEST(tiny_gguf_files) {
    static const u64 n_tensors[FM_FAMILIES] = {21, 27, 25, 28, 27};
    static const lb_dtype types[] = {LB_F32, LB_F16, LB_BF16, LB_Q8_0, LB_Q4_K, LB_Q6_K};
    for (int f = 0; f < FM_FAMILIES; f++) {
        for (size_t d = 0; d < LB_LEN(types); d++) {
            lb_source *s = NULL;
            lb_arena a = {0};
            const char *path = NULL;
            fm_spec spec = fm_tiny((fm_family)f);
            spec.dtype = types[d];
            CHECK_OK(fm_write_gguf(folder("gguf"), "m", &spec, &a, &path, &err));
            CHECK_OK(lb_open(&s, path, &err));
            CHECK(s->format == LB_FORMAT_GGUF);
            CHECK_U64(s->n_tensors, n_tensors[f]);
            const lb_tensor *norm = lb_source_tensor(s, LB_STR("blk.0.attn_norm.weight"));
            const lb_tensor *v = lb_source_tensor(s, LB_STR("blk.0.attn_v.weight"));
            CHECK(norm && norm->dtype == LB_F32 && v && v->dtype == types[d]);
            lb_source_close(&s);
            lb_arena_deinit(&a);
        }
    }
}

/* bf16, f16 and f32 hold the same finite numbers; they spread and are not all alike. */
LB_TEST(values_are_exact_in_every_float_type) {
    enum { N = 4096 };
    static u8 b[N * 2], h[N * 2], f[N * 4];
    fm_tensor *t = NULL;
    u64 n = 0;
    lb_arena a = {0};
    fm_spec spec = fm_tiny(FM_GEMMA3);
    CHECK_OK(fm_tensors(&spec, &a, &t, &n, &err));
    for (u64 i = 0; i < n; i++) {
        u64 count = LB_MIN(t[i].dim[0] * (t[i].rank == 2 ? t[i].dim[1] : 1), (u64)N);
        double sum2 = 0;
        fm_values(&t[i], 0, LB_BF16, 0, count, b);
        fm_values(&t[i], 0, LB_F16, 0, count, h);
        fm_values(&t[i], 0, LB_F32, 0, count, f);
        for (u64 k = 0; k < count; k++) {
            u32 bits = lb_load_u32(f + 4 * k), half = lb_load_u16(h + 2 * k);
            CHECK_U64(bits, (u32)lb_load_u16(b + 2 * k) << 16);
            CHECK_U64(bits & 0x80000000, (half & 0x8000) << 16);
            CHECK_U64((bits & 0x7fffffff) - (112u << 23), (half & 0x7fff) << 13);
            CHECK((half & 0x7c00) != 0 && (half & 0x7c00) != 0x7c00); /* normal in f16 */
            double v = (double)lb_f32_from_bits(bits);
            sum2 += v * v;
        }
        double rms = sqrt(sum2 / (double)count);
        CHECK(rms > 0.01 && rms < 2.0);
    }
    lb_arena_deinit(&a);
}

LB_TEST(shards_hold_the_same_bytes) {
    static u8 x[1 << 18], y[1 << 18];
    lb_source *one = NULL, *many = NULL, *again = NULL;
    fm_spec spec = fm_tiny(FM_QWEN3_MOE), other = fm_tiny(FM_QWEN3_MOE);
    const char *a = folder("one"), *b = folder("many"), *c = folder("other");
    CHECK_OK(fm_write_hf(a, &spec, &err));
    spec.max_file_bytes = 300000;
    CHECK_OK(fm_write_hf(b, &spec, &err));
    other.seed = 2;
    CHECK_OK(fm_write_hf(c, &other, &err));
    CHECK_OK(lb_open(&one, a, &err));
    CHECK_OK(lb_open(&many, b, &err));
    CHECK_OK(lb_open(&again, c, &err));
    CHECK(one->n_files == 1 && many->n_files > 3);
    CHECK_U64(one->n_tensors, many->n_tensors);
    for (u64 i = 0; i < one->n_tensors; i++) {
        u64 n = 0, m = 0;
        const char *name = one->tensors[i].name.ptr;
        CHECK(read_tensor(one, name, x, sizeof x, &n) && read_tensor(many, name, y, sizeof y, &m));
        CHECK(n == m && memcmp(x, y, n) == 0);
        CHECK(read_tensor(again, name, y, sizeof y, &m));
        CHECK(n == m && memcmp(x, y, n) != 0); /* another seed */
    }
    lb_source_close(&one);
    lb_source_close(&many);
    lb_source_close(&again);
}

/* A stack in GGUF is its HF matrices one after another; a plain matrix is the same bytes. */
LB_TEST(gguf_holds_what_hf_holds) {
    static u8 x[1 << 20], y[1 << 20];
    lb_source *hf = NULL, *gg = NULL;
    lb_arena a = {0};
    const char *path = NULL, *dir = folder("pair");
    fm_spec spec = fm_tiny(FM_QWEN3_MOE);
    CHECK_OK(fm_write_hf(dir, &spec, &err));
    spec.max_file_bytes = 400000;
    CHECK_OK(fm_write_gguf(dir, "m", &spec, &a, &path, &err));
    CHECK_OK(lb_open(&hf, dir, &err));
    CHECK_OK(lb_open(&gg, path, &err));
    CHECK(gg->n_files > 3);
    u64 n = 0, m = 0, at = 0;
    CHECK(read_tensor(gg, "blk.1.attn_q.weight", x, sizeof x, &n));
    CHECK(read_tensor(hf, "model.layers.1.self_attn.q_proj.weight", y, sizeof y, &m));
    CHECK(n == m && memcmp(x, y, n) == 0);
    CHECK(read_tensor(gg, "blk.1.ffn_up_exps.weight", x, sizeof x, &n));
    for (u32 e = 0; e < 4; e++) {
        char name[96];
        (void)snprintf(name, sizeof name, "model.layers.1.mlp.experts.%u.up_proj.weight", e);
        CHECK(read_tensor(hf, name, y, sizeof y, &m));
        CHECK(at + m <= n && memcmp(x + at, y, m) == 0);
        at += m;
    }
    CHECK_U64(at, n);
    lb_source_close(&hf);
    lb_source_close(&gg);
    lb_arena_deinit(&a);
}

/* Bytes that the files of a folder take on the disk. */
static u64 disk_bytes(const lb_source *s) {
    u64 sum = 0;
    for (u64 i = 0; i < s->n_files; i++) {
        struct stat st;
        if (stat(s->files[i].path, &st) == 0)
            sum += (u64)st.st_blocks * 512;
    }
    return sum;
}

LB_TEST(huge_models_are_holes) {
    static const struct {
        fm_spec (*spec)(void);
        u64 parameters, n_hf;
    } cases[] = {{fm_llama3_70b, 70553706496, 723},
                 {fm_llama3_405b, 405853388800, 1137},
                 {fm_moe_1t, 1042174423296, 70824}};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        lb_source *s = NULL;
        lb_arena a = {0};
        const char *path = NULL, *dir = folder("huge");
        fm_spec spec = cases[i].spec();
        CHECK_OK(fm_write_hf(dir, &spec, &err));
        CHECK_OK(lb_open(&s, dir, &err));
        CHECK_U64(count_parameters(s), cases[i].parameters);
        CHECK_U64(s->n_tensors, cases[i].n_hf);
        CHECK(s->n_files > 20 && disk_bytes(s) < 64 * LB_MIB);
        lb_source_close(&s);
        CHECK_OK(fm_write_gguf(dir, "m", &spec, &a, &path, &err));
        CHECK_OK(lb_open(&s, path, &err));
        CHECK_U64(count_parameters(s), cases[i].parameters);
        CHECK(s->n_files > 20 && disk_bytes(s) < 64 * LB_MIB);
        lb_source_close(&s);
        lb_arena_deinit(&a);
        (void)lb_os_remove_tree(dir, NULL);
    }
}

LB_TEST_MAIN("fast")
