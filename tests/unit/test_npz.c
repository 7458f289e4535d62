/* SPDX-License-Identifier: Apache-2.0 */
/* test_npz.c: archives of NumPy and MLX (tests/golden/npz, by make_npz.py there): every type, shape
 * and byte; what is refused by name; cut at every byte; a folder of an old MLX model. */
#include "format/npz.h"
#include "arch_util.h"
#include "base/hash.h"
#include "base/os.h"
#include "format/folder.h"
#include "st_files.h"
#include "test.h"

static lb_err err;

static u8 *golden(const char *name, size_t *len) {
    char path[96];
    snprintf(path, sizeof path, "npz/%s", name);
    return st_slurp(lb_test_golden(path), len);
}

static lb_status parse(const void *bytes, size_t len, lb_arena *arena, lb_npz_dir *dir) {
    lb_cur c;
    err = (lb_err){0};
    lb_cur_mem(&c, "x.npz", bytes, len);
    return lb_npz_parse(&c, arena, arena, dir, &err);
}

/* [type, shape, SHA-256] under the array's name. */
static bool is_as_said(const lb_tensor *t, const u8 *file, const lb_json *want) {
    lb_sha256 h;
    char hex[65];
    u64 i = 0, d;
    if (!want || !lb_str_eq_c(want->first->text, lb_dtype_get(t->dtype)->name))
        return false;
    for (const lb_json *v = want->first->next->first; v; v = v->next, i++)
        if (i >= t->shape.rank || !lb_json_as_u64(v, &d) || d != t->shape.dim[i])
            return false;
    lb_sha256_init(&h);
    lb_sha256_update(&h, file + t->off_bytes, t->size_bytes);
    lb_sha256_hex(&h, hex);
    return i == t->shape.rank && lb_str_eq_c(want->last->text, hex);
}

LB_TEST(peers_files) {
    static const char *const names[] = {"mlx", "types"};
    for (size_t i = 0; i < LB_LEN(names); i++) {
        char name[64];
        size_t len;
        lb_arena arena = {0};
        lb_npz_dir dir;
        snprintf(name, sizeof name, "%s.npz", names[i]);
        u8 *bytes = golden(name, &len);
        CHECK_OK(parse(bytes, len, &arena, &dir));
        snprintf(name, sizeof name, "../npz/%s.json", names[i]);
        const lb_json *want = arch_golden(name, &arena);
        CHECK(want);
        CHECK_U64(dir.n_tensors, want->n);
        for (u64 k = 0; k < dir.n_tensors; k++)
            if (!is_as_said(&dir.tensors[k], bytes, lb_json_get_str(want, dir.tensors[k].name)))
                lb_test_fail(__FILE__, __LINE__, "%s: '%.*s' differs", names[i],
                             LB_FMT(dir.tensors[k].name));
        lb_free(bytes);
        lb_arena_deinit(&arena);
    }
}

LB_TEST(refused_by_name) {
    static const struct {
        const char *file, *says;
    } cases[] = {{"compressed.npz", "compress"},
                 {"fortran_3.npz", "fortran_order"},
                 {"big_endian.npz", "big-endian"},
                 {"object.npz", "its type '|O'"}};
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        size_t len;
        lb_arena arena = {0};
        lb_npz_dir dir;
        u8 *bytes = golden(cases[i].file, &len);
        CHECK(parse(bytes, len, &arena, &dir) == LB_E_UNSUPPORTED);
        CHECK(strstr(err.msg, cases[i].says) && strstr(err.msg, "x.npz"));
        lb_free(bytes);
        lb_arena_deinit(&arena);
    }
}

/* A transposed matrix lies as it did before. */
LB_TEST(turned) {
    size_t len;
    lb_arena arena = {0};
    lb_npz_dir dir;
    u8 *bytes = golden("fortran.npz", &len);
    CHECK_OK(parse(bytes, len, &arena, &dir));
    const lb_tensor *t = &dir.tensors[0];
    CHECK(t->shape.dim[0] == 2 && t->shape.dim[1] == 3 && t->size_bytes == 24);
    u64 stride;
    CHECK(t->lies == LB_LIES_TURNED && lb_tensor_stride(t, &stride) && stride == 2);
    lb_free(bytes);
    lb_arena_deinit(&arena);
}

LB_TEST(cut_and_flipped) {
    size_t len;
    u8 *bytes = golden("mlx.npz", &len);
    for (size_t n = 0; n < len; n++) {
        lb_arena arena = {0};
        lb_npz_dir dir;
        u8 *part = lb_alloc(n + 1); /* its end is watched by the address sanitizer */
        CHECK(part);
        memcpy(part, bytes, n);
        CHECK(parse(part, n, &arena, &dir) != LB_OK && err.msg[0]);
        lb_free(part);
        lb_arena_deinit(&arena);
    }
    for (size_t bit = 0; bit < 8 * len; bit++) {
        lb_arena arena = {0};
        lb_npz_dir dir;
        bytes[bit / 8] ^= (u8)(1u << bit % 8);
        (void)parse(bytes, len, &arena, &dir);
        for (u64 i = 0; i < dir.n_tensors; i++)
            CHECK(dir.tensors[i].off_bytes <= len &&
                  dir.tensors[i].size_bytes <= len - dir.tensors[i].off_bytes);
        bytes[bit / 8] ^= (u8)(1u << bit % 8);
        lb_arena_deinit(&arena);
    }
    lb_free(bytes);
}

LB_TEST(folder) {
    lb_source *s = NULL;
    const char *dir = st_dir("old");
    st_text(dir, "config.json",
            "{\"model_type\": \"llama\", \"quantization\": {\"group_size\": 32, \"bits\": 4}}");
    st_copy(lb_test_golden("npz/mlx.npz"), dir, "weights.npz");
    err = (lb_err){0};
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK(s->format == LB_FORMAT_MLX);
    const lb_weight *w = lb_source_weight(s, LB_STR("layers.0.w.weight"));
    CHECK(w && w->enc.kind == LB_ENC_MLX_AFFINE && w->shape.dim[0] == 4 && w->shape.dim[1] == 64);
    CHECK(lb_source_weight(s, LB_STR("norm.weight")) &&
          !lb_source_weight(s, LB_STR("layers.0.w.scales")));
    lb_source_close(&s);
    /* safetensors go before */
    st_file(dir, "model.safetensors", "mlx", "norm.weight F32 8");
    CHECK_OK(lb_folder_open(&s, dir, &err));
    CHECK_U64(s->n_tensors, 1);
    lb_source_close(&s);
}

LB_TEST_MAIN("fast")
