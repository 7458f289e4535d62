/* SPDX-License-Identifier: Apache-2.0 */
/* Models quantized by other tools: the values of the makers' own code (tests/golden/foreign), every
 * inconsistency refused by name. */
#include "base/cpu.h"
#include "format/folder.h"
#include "ops/values.h"
#include "st_files.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>

static bool same_values(u64 n, const float *a, const float *b, const char *who) {
    for (u64 i = 0; i < n; i++)
        if (lb_f32_bits(a[i]) != lb_f32_bits(b[i]) && !(isnan(a[i]) && isnan(b[i]))) {
            lb_test_fail(__FILE__, __LINE__, "%s: value %llu is %a, expected %a", who,
                         (unsigned long long)i, (double)a[i], (double)b[i]);
            return false;
        }
    return true;
}

/* A whole weight in tiles of so many rows and columns; *result is freed with free. */
static void decode(const lb_source *s, const lb_weight *w, u64 tile_rows, u64 tile_cols,
                   float **result) {
    lb_values v;
    lb_fds *fds = NULL;
    lb_err err = {0};
    lb_kernels k;
    lb_kernels_init(&k, lb_cpu_isa());
    CHECK_OK(lb_values_init(&v, s, w, &err));
    CHECK_OK(lb_fds_new(&fds, s->files, s->n_files, 4, &err));
    lb_values_cut cut = {.n_rows = v.n_rows,
                         .n_cols = v.n_cols,
                         .tile_rows = tile_cols < v.n_cols ? 1 : tile_rows,
                         .tile_cols = tile_cols};
    float *out = *result = malloc((v.n_rows * v.n_cols + 1) * sizeof *out);
    u8 *scratch = aligned_alloc(64, (lb_values_scratch_bytes(&v, &cut) + 63) & ~(size_t)63);
    lb_values_io io = {fds, &k, scratch};
    for (u64 r = 0; r < v.n_rows; r += cut.tile_rows)
        for (u64 c = 0; c < v.n_cols; c += tile_cols) {
            lb_values_tile t = {r, LB_MIN(cut.tile_rows, v.n_rows - r), c,
                                LB_MIN(tile_cols, v.n_cols - c)};
            CHECK_OK(lb_values_read(&v, &io, &t, out + r * v.n_cols + c, &err));
        }
    free(scratch);
    lb_fds_free(&fds);
}

/* Every weight of a golden folder, in whole and in odd tiles. */
static void check_folder(const char *name, u64 n_weights) {
    static const u64 tiles[][2] = {{1000, 1000}, {7, 1000}, {1, 1000}, {1, 13}, {1, 1}};
    lb_err err = {0};
    lb_source *s = NULL, *e = NULL;
    char path[64];
    snprintf(path, sizeof path, "foreign/%s", name);
    CHECK_OK(lb_folder_open(&s, lb_test_golden(path), &err));
    snprintf(path, sizeof path, "foreign/%s/expect", name);
    CHECK_OK(lb_folder_open(&e, lb_test_golden(path), &err));
    if (!s || !e) {
        lb_test_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
        return;
    }
    CHECK_U64(s->n_weights, n_weights);
    CHECK_U64(e->n_weights, n_weights);
    for (u64 i = 0; i < e->n_weights; i++) {
        const lb_weight *w = lb_source_weight(s, e->weights[i].name);
        float *want = NULL, *got = NULL;
        decode(e, &e->weights[i], 1000, 1000, &want);
        u64 n = e->tensors[e->weights[i].part[0]].n_elems;
        CHECK(w && lb_shape_eq(&w->shape, &e->weights[i].shape));
        for (size_t t = 0; w && t < LB_LEN(tiles); t++) {
            decode(s, w, tiles[t][0], LB_MIN(tiles[t][1], w->shape.dim[w->shape.rank - 1]), &got);
            if (!same_values(n, got, want, w->name.ptr))
                t = LB_LEN(tiles);
            free(got);
        }
        free(want);
    }
    lb_source_close(&s);
    lb_source_close(&e);
}

LB_TEST(fp8) {
    check_folder("fp8_block", 4);
    check_folder("fp8_rows", 3);
}

LB_TEST(compressed_tensors) {
    check_folder("ct_float", 5);
    check_folder("ct_int", 5);
    check_folder("ct_packed", 21);
}

/* ---- refusals ---- */

#define FP8(rest) "{\"quantization_config\":{\"quant_method\":\"fp8\"" rest "}}"
#define CT(format, weights)                                                                  \
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"" format \
    "\",\"config_groups\":{\"g\":{\"weights\":{" weights "}}}}}"
#define INT4 "\"num_bits\":4,\"type\":\"int\",\"group_size\":32,\"strategy\":\"group\""

static void refused(const char *config, const char *tensors, const char *want) {
    const char *dir = st_dir("refused");
    lb_err err = {0};
    lb_source *s = NULL;
    st_text(dir, "config.json", config);
    st_file(dir, "model.safetensors", "pt", tensors);
    if (lb_folder_open(&s, dir, &err) == LB_OK || !strstr(err.msg, want))
        lb_test_fail(__FILE__, __LINE__, "%s\n    %s\n    said \"%s\", expected \"%s\"", config,
                     tensors, err.msg, want);
    lb_source_close(&s);
}

LB_TEST(refusals) {
    refused(FP8(""), "l.weight F8_E4M3 4 4", "has no weight_scale_inv");
    refused(FP8(""), "l.weight F8_E4M3 4 4;l.weight_scale_inv F32 3", "nor one for each row");
    refused(FP8(""), "l.weight F8_E4M3 4 4;l.weight_scale_inv I32 4", "must be floats");
    refused(FP8(""), "l.weight F8_E4M3 2 4 4;l.weight_scale_inv F32 4", "expected a matrix");
    refused(FP8(",\"weight_block_size\":[2,0]"), "l.weight F8_E4M3 4 4", "two sizes");
    refused(FP8(",\"weight_block_size\":[2,2]"), "l.weight F8_E4M3 5 4;l.weight_scale_inv F32 2 2",
            "for each block");
    refused(FP8(""), "l.weight I8 4 4;l.weight_scale_inv F32 4", "'l.weight' (i8)");
    refused(FP8(""), "l.weight BF16 4 4;l.weight_scale_inv F32 4", "'l.weight_scale_inv'");
    refused(CT("nvfp4-pack-quantized", INT4), "l.weight BF16 4 4", "nvfp4-pack-quantized");
    refused(CT("pack-quantized", "\"num_bits\":9"), "l.weight BF16 4 4", "type of weights");
    refused(CT("pack-quantized", INT4), "l.weight_packed I32 4 4;l.weight_scale BF16 4 1",
            "weight_shape' is missing");
    refused(CT("pack-quantized", INT4), /* the shape's data are zeros */
            "l.weight_packed I32 4 4;l.weight_scale BF16 4 1;l.weight_shape I64 2",
            "rows and columns");
    refused(CT("int-quantized", INT4), "l.weight I8 4 64;l.weight_scale BF16 4 3", "none of the");
    refused(CT("int-quantized", INT4),
            "l.weight I8 4 64;l.weight_scale BF16 4 2;l.weight_g_idx I32 64",
            "'l.weight_g_idx' (i32)");
    refused("{\"quantization_config\":{\"quant_method\":\"modelopt\",\"quant_algo\":\"NVFP4\"}}",
            "l.weight U8 4 4;l.weight_scale F8_E4M3 4 1", "modelopt");
    refused("{\"quantization_config\":{\"quant_method\":\"quip\"}}", "l.weight BF16 4 4", "'quip'");
}

LB_TEST_MAIN("fast")
