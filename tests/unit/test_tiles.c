/* SPDX-License-Identifier: Apache-2.0 */
/* test_tiles.c: what a pass says about all of its tiles is what they say one by one, where blocks
 * are cut by tiles, columns by slices; and for a matrix of any size at once. */
#include "base/os.h"
#include "format/folder.h"
#include "plan/prog.h"
#include "st_files.h"
#include "test.h"

/* A matrix of FP8 with a scale for every 128 x 128 values; no data is read. */
static lb_source *fp8(u64 n_rows, u64 n_cols) {
    char text[512];
    lb_source *s = NULL;
    lb_err err = {0};
    u64 data = n_rows * n_cols,
        scales = lb_ceil_div_u64(n_rows, 128) * lb_ceil_div_u64(n_cols, 128);
    const char *dir = st_dir("fp8");
    st_text(dir, "config.json",
            "{\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\","
            "\"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128]}}");
    snprintf(
        text, sizeof text,
        "{\"w.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[%llu,%llu],\"data_offsets\":[0,%llu]},"
        "\"w.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[%llu,%llu],"
        "\"data_offsets\":[%llu,%llu]}}",
        (unsigned long long)n_rows, (unsigned long long)n_cols, (unsigned long long)data,
        (unsigned long long)lb_ceil_div_u64(n_rows, 128),
        (unsigned long long)lb_ceil_div_u64(n_cols, 128), (unsigned long long)data,
        (unsigned long long)(data + scales * 4));
    st_raw(dir, "model.safetensors", text, data + scales * 4);
    if (lb_folder_open(&s, dir, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    return s;
}

/* The same size in an encoding whose parts lie transposed (GPTQ), or count values across rows
 * (NF4); w: the weight. */
static lb_source *foreign(lb_enc_kind kind, u64 n_rows, u64 n_cols, lb_weight *w) {
    char text[256];
    lb_source *s = NULL;
    lb_err err = {0};
    const char *dir = st_dir("foreign");
    typedef unsigned long long ull;
    u64 blocks = lb_ceil_div_u64(n_rows * n_cols, 64), groups = lb_ceil_div_u64(n_cols, 32);
    if (kind == LB_ENC_GPTQ)
        snprintf(text, sizeof text, "a F32 %llu %llu;b F16 %llu %llu;c F32 %llu %llu",
                 (ull)n_cols / 8, (ull)n_rows, (ull)groups, (ull)n_rows, (ull)groups,
                 (ull)n_rows / 8);
    else
        snprintf(text, sizeof text, "a F16 %llu 1;b F32 %llu;c F32 1 1",
                 (ull)lb_ceil_div_u64(n_rows * n_cols, 4), (ull)blocks);
    st_file(dir, "model.safetensors", "pt", text);
    if (lb_folder_open(&s, dir, &err) != LB_OK) {
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
        return NULL;
    }
    *w = (lb_weight){.name = LB_STR("w"),
                     .shape = {2, {n_rows, n_cols}},
                     .enc = {.kind = kind, .bits = 4, .group_size = kind == LB_ENC_GPTQ ? 32 : 64},
                     .n_parts = kind == LB_ENC_GPTQ ? 3 : 2,
                     .part = {0, 1, 2}};
    return s;
}

enum { PLAIN, TURNED, SLICED, MOVED, EVERY, WOVEN, TURNED_WOVEN, N_FORMS };

static lb_node_id expression(lb_graph *g, const lb_weight *w, u32 form) {
    lb_node_id x = lb_expr_read(g, 0, w);
    u64 rows = lb_graph_node(g, x)->n_rows, cols = lb_graph_node(g, x)->n_cols;
    if (form == MOVED)
        x = lb_expr_rows(g, x, rows / 3, 1, rows / 2);
    x = lb_expr_decode(g, x);
    if (form == SLICED)
        x = lb_expr_cols(g, x, cols / 3, cols / 2);
    if (form == EVERY && cols % 2 == 0)
        x = lb_expr_every(g, x, 1, 2);
    if (form == TURNED || form == TURNED_WOVEN)
        x = lb_expr_transpose(g, x);
    if (form == WOVEN || form == TURNED_WOVEN)
        x = lb_expr_map2(g, LB_MAP_WEAVE, x, x, LB_CONST(0));
    return lb_expr_encode(g, x, LB_BF16);
}

/* The pass of the matrix, cut for a size of tiles. */
static const lb_pass *pass_of(const lb_source *s, const lb_weight *w, u32 form, u64 target,
                              lb_arena *a, lb_prog *prog) {
    const lb_source **list = lb_arena_new(a, const lb_source *, 1);
    lb_graph *g = lb_arena_new(a, lb_graph, 1);
    lb_err err = {0};
    list[0] = s;
    lb_graph_init(g, a, list, 1);
    lb_node_id root = expression(g, w, form);
    if (lb_graph_status(g, &err) != LB_OK ||
        lb_prog_compile(prog, g, &root, 1, &(lb_prog_limits){UINT64_MAX, UINT64_MAX}, a, &err) !=
            LB_OK ||
        lb_prog_fit(prog, target, &err) != LB_OK) {
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
        return NULL;
    }
    return &prog->passes[prog->n_passes - 1];
}

static void by_tile(const lb_source *s, const lb_weight *w) {
    static const u64 targets[] = {1, 300, 4096, 100000, LB_MIB};
    for (size_t t = 0; s && t < LB_LEN(targets); t++)
        for (u32 form = 0; form < N_FORMS; form++) {
            lb_arena a = {0};
            lb_prog prog;
            const lb_pass *p = pass_of(s, w, form, targets[t], &a, &prog);
            u64 bytes = 0, slab = 0;
            bool few = p && p->n_tiles < 300000;
            CHECK(p);
            for (u64 k = 0; few && k < p->n_tiles; k++) {
                lb_rect r = lb_pass_tile(p, k);
                bytes += lb_tile_read_bytes(p, r);
                slab = LB_MAX(slab, lb_tile_layout(p, r, NULL, NULL));
            }
            CHECK(!few || (p->read_bytes == bytes && p->slab_bytes >= slab));
            lb_arena_deinit(&a);
        }
}

LB_TEST(tile_by_tile) {
    static const u64 shapes[][2] = {{1, 1}, {300, 200}, {1000, 1000}, {2048, 7168}, {7168, 130}};
    for (size_t i = 0; i < LB_LEN(shapes); i++) {
        lb_source *s = fp8(shapes[i][0], shapes[i][1]);
        if (s)
            by_tile(s, &s->weights[0]);
        lb_source_close(&s);
    }
}

LB_TEST(tile_by_tile_foreign) {
    static const u64 shapes[][2] = {{8, 8}, {304, 200}, {1000, 1000}, {2048, 712}, {7168, 136}};
    lb_weight w;
    for (size_t i = 0; i < LB_LEN(shapes); i++)
        for (u32 nf4 = 0; nf4 < 2; nf4++) {
            lb_source *s =
                foreign(nf4 ? LB_ENC_BNB_NF4 : LB_ENC_GPTQ, shapes[i][0], shapes[i][1], &w);
            by_tile(s, &w);
            lb_source_close(&s);
        }
}

/* What lies transposed is one tile up to 64 times the size aimed at, read in the order of the file,
 * or tiles of many rows; outputs have room for a batch. */
LB_TEST(batches) {
    static const struct {
        u32 form;
        bool entire;
    } want[] = {{PLAIN, true}, {TURNED, true}, {WOVEN, true}, {SLICED, false}, {MOVED, false}};
    lb_weight w;
    lb_source *s = foreign(LB_ENC_GPTQ, 16384, 2048, &w);
    u64 all = 0;
    for (u32 k = 0; s && k < w.n_parts; k++)
        all += s->tensors[w.part[k]].size_bytes;
    for (size_t i = 0; s && i < LB_LEN(want); i++)
        for (u32 small = 0; small < 2; small++) {
            lb_arena a = {0};
            lb_prog prog;
            u64 target = small ? 192 * LB_KIB : LB_MIB;
            const lb_pass *p = pass_of(s, &w, want[i].form, target, &a, &prog);
            CHECK(p && p->batch_rows > 0);
            CHECK(p && (p->n_tiles > 1) == (small && want[i].entire)); /* the others are half */
            CHECK(p && p->leaves[0].entire == (want[i].entire && !small));
            CHECK(!p || !p->leaves[0].entire || p->read_bytes == all);
            CHECK(!p || p->slab_bytes < (small ? 64 * target : all + 3 * LB_MIB));
            lb_arena_deinit(&a);
        }
    lb_source_close(&s);
}

/* Codes and scales that have a row for each row are hashed on the way where tiles are whole rows.
 */
LB_TEST(blocks_of_one_row) {
    const char *dir = st_dir("packed");
    lb_source *s = NULL;
    lb_err err = {0};
    lb_weight w = {.name = LB_STR("w"),
                   .shape = {2, {300, 2048}},
                   .enc = {.kind = LB_ENC_PACKED, .bits = 4, .group_size = 32, .block_rows = 1},
                   .n_parts = 2,
                   .part = {0, 1}};
    st_file(dir, "model.safetensors", "pt", "a I32 300 256;b F16 300 64");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    for (u32 form = PLAIN; form <= MOVED; form++)
        for (u32 small = 0; small < 2; small++) {
            lb_arena a = {0};
            lb_prog prog;
            const lb_pass *p = pass_of(s, &w, form, small ? 300 : LB_MIB, &a, &prog);
            const lb_leaf *l = &p->leaves[0];
            bool all = form == PLAIN && !small;
            CHECK(form != PLAIN || (p->tile_cols == p->n_cols) == !small);
            CHECK(lb_leaf_hashes(l, 0) == all && lb_leaf_hashes(l, 1) == all);
            lb_arena_deinit(&a);
        }
    lb_source_close(&s);
}

/* Elements that go out as they are stored are turned without being decoded. */
LB_TEST(turned_elements) {
    static const lb_dtype types[] = {LB_BF16, LB_F32, LB_F16};
    for (size_t i = 0; i < LB_LEN(types); i++) {
        const char *dir = st_dir("turned");
        lb_source *s = NULL;
        lb_arena a = {0};
        lb_prog prog;
        lb_graph g;
        lb_err err = {0};
        st_text(dir, "config.json", "{}");
        st_file(dir, "model.safetensors", "pt", "w.weight BF16 300 200");
        CHECK_OK(lb_folder_open(&s, dir, &err));
        const lb_source *list[] = {s};
        lb_graph_init(&g, &a, list, 1);
        lb_node_id x = lb_expr_decode(&g, lb_expr_read(&g, 0, &s->weights[0]));
        x = lb_expr_encode(&g, lb_expr_transpose(&g, lb_expr_rows(&g, x, 100, 1, 120)), types[i]);
        CHECK_OK(
            lb_prog_compile(&prog, &g, &x, 1, &(lb_prog_limits){UINT64_MAX, UINT64_MAX}, &a, &err));
        CHECK_OK(lb_prog_fit(&prog, LB_MIB, &err));
        const lb_pass *p = &prog.passes[prog.n_passes - 1];
        bool same = types[i] == LB_BF16;
        CHECK_U64(p->n_insts, same ? 1 : 3);
        CHECK(p->insts[p->n_insts - 1].turned == same && !lb_inst_copies(&p->insts[0]));
        CHECK_U64(p->read_bytes, 120 * 200 * 2);
        lb_arena_deinit(&a);
        lb_source_close(&s);
    }
}

/* Outputs that take turns with the rows of a matrix share one leaf that reads them in order. */
LB_TEST(turns) {
    for (u64 step = 2; step < 5; step++)
        for (u32 missing = 0; missing < 2; missing++) {
            const char *dir = st_dir("turns");
            lb_source *s = NULL;
            lb_arena a = {0};
            lb_prog prog;
            lb_graph g;
            lb_err err = {0};
            lb_node_id root[LB_ROOTS_MAX];
            u32 n = (u32)step - missing;
            st_text(dir, "config.json", "{}");
            st_file(dir, "model.safetensors", "pt", "w.weight BF16 300 200");
            CHECK_OK(lb_folder_open(&s, dir, &err));
            const lb_source *list[] = {s};
            lb_graph_init(&g, &a, list, 1);
            for (u32 i = 0; i < n; i++) { /* as bytes, as values */
                lb_node_id x = lb_expr_read(&g, 0, &s->weights[0]);
                x = lb_expr_rows(&g, x, 12 + (i + 1) % n, step, 24);
                root[i] =
                    lb_expr_encode(&g, i % 2 ? x : lb_expr_decode(&g, x), i % 2 ? LB_BF16 : LB_F32);
            }
            CHECK_OK(lb_prog_compile(&prog, &g, root, n, &(lb_prog_limits){UINT64_MAX, UINT64_MAX},
                                     &a, &err));
            CHECK_OK(lb_prog_fit(&prog, LB_MIB, &err));
            const lb_pass *p = &prog.passes[prog.n_passes - 1];
            CHECK_U64(p->n_leaves, missing ? n : 1);
            CHECK_U64(p->leaves[0].per_row, missing ? 0 : step);
            CHECK_U64(p->read_bytes, n * 24 * 200 * 2);
            lb_arena_deinit(&a);
            lb_source_close(&s);
        }
}

/* 2^40 values in tiles of 4 KiB: 2^28 of them. */
LB_TEST(any_size) {
    lb_source *s = fp8((u64)1 << 28, 4096);
    lb_arena a = {0};
    lb_prog prog;
    u64 t0 = lb_os_now_us();
    const lb_pass *p = s ? pass_of(s, &s->weights[0], PLAIN, 4096, &a, &prog) : NULL;
    u64 us = lb_os_now_us() - t0;
    CHECK(p && p->n_tiles >= (u64)1 << 28);
    CHECK(p && p->read_bytes > (u64)1 << 40);
    CHECK(!lb_test_timed() || us < 1000000);
    lb_arena_deinit(&a);
    lb_source_close(&s);
}

LB_TEST_MAIN("fast")
