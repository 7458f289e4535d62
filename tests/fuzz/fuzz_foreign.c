/* SPDX-License-Identifier: Apache-2.0 */
/* A model of another tool: parts c (config.json), m, g and a (its own file: ModelOpt's, AutoGPTQ's,
 * AutoAWQ's), h (a safetensors header) and d (its data; the rest is zeros). What is accepted is
 * decoded, in whole rows and in odd stretches, from a file that ends where its header says. */
#include "format/foreign.h"
#include "format/safetensors.h"
#include "isa.h"
#include "ops/values.h"
#include "parts.h"

#define DATA_MAX 65536
#define ELEMS_MAX 16384

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool add_tensors(lb_source *s, lb_arena *a, lb_str header, lb_str data, u64 data_bytes) {
    lb_buf b = {0};
    lb_st_dir dir;
    u32 file = 0;
    lb_buf_put_u64(&b, header.len);
    lb_buf_put_str(&b, header);
    lb_buf_put(&b, data.ptr, LB_MIN(data.len, data_bytes));
    lb_buf_put_zeros(&b, data_bytes - LB_MIN(data.len, data_bytes));
    bool ok =
        lb_buf_status(&b, NULL) == LB_OK &&
        lb_source_add_file(s, parts_file(0, lb_buf_str(&b)), LB_STR("f"), &file, NULL) == LB_OK &&
        lb_st_parse(header, b.len, &s->perm, a, &dir, NULL) == LB_OK;
    for (u64 i = 0; ok && i < dir.n_tensors; i++)
        ok = lb_source_add_tensor(s, &dir.tensors[i], NULL) == LB_OK;
    lb_buf_deinit(&b);
    return ok;
}

static void decode(const lb_source *s, const lb_weight *w, const lb_kernels *k) {
    lb_values v;
    lb_fds *fds = NULL;
    u64 n;
    LB_ASSERT(lb_values_init(&v, s, w, NULL) == LB_OK);
    if (!lb_shape_elems(&w->shape, &n) || n == 0 || n > ELEMS_MAX || !v.codec.decodes ||
        lb_fds_new(&fds, s->files, s->n_files, 1, NULL) != LB_OK)
        return;
    for (u32 i = 0; i < 2; i++) {
        u64 odd = lb_ceil_div_u64(7, v.codec.unit_elems) * v.codec.unit_elems; /* whole groups */
        lb_values_cut cut = {.n_rows = v.n_rows,
                             .n_cols = v.n_cols,
                             .tile_rows = i ? 1 : LB_MIN(v.n_rows, 5),
                             .tile_cols = i ? LB_MIN(v.n_cols, odd) : v.n_cols};
        u64 bytes = (lb_values_scratch_bytes(&v, &cut) + 63) & ~(u64)63;
        lb_values_io io = {fds, k, aligned_alloc(64, bytes)};
        float *out = malloc(cut.tile_rows * cut.tile_cols * sizeof *out);
        for (u64 r = 0; r < v.n_rows; r += cut.tile_rows)
            for (u64 c = 0; c < v.n_cols; c += cut.tile_cols) {
                lb_values_tile t = {r, LB_MIN(cut.tile_rows, v.n_rows - r), c,
                                    LB_MIN(cut.tile_cols, v.n_cols - c)};
                lb_err err = {0};
                lb_status st = lb_values_read(&v, &io, &t, out, &err);
                /* a table of groups is looked at when it is read */
                LB_ASSERT(st == LB_OK || (w->enc.kind == LB_ENC_GPTQ && w->n_parts == 4 &&
                                          st == LB_E_FORMAT && err.msg[0]));
            }
        free(io.scratch);
        free(out);
    }
    lb_fds_free(&fds);
}

/* A file that need not be there; false: it is no JSON. */
static bool own_file(const parts *p, char letter, lb_arena *a, const lb_json **out) {
    lb_json *root = NULL;
    lb_str text = part(p, letter);
    if (text.ptr && lb_json_parse(text, "a file", a, &root, NULL) != LB_OK)
        return false;
    *out = root;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lb_kernels k;
    lb_arena arena = {0};
    lb_buf notes = {0};
    lb_foreign_files files = {0};
    lb_err err = {0};
    parts p;
    bool made = false;
    lb_kernels_init(&k, isa_of(data, size));
    lb_source *s = lb_source_new(LB_FORMAT_HF, "fuzz");
    parts_split(&p, data, size);
    u64 data_bytes = size > 4 ? lb_load_u32(data) % DATA_MAX : 0;
    if (s && add_tensors(s, &arena, part(&p, 'h'), part(&p, 'd'), data_bytes) &&
        own_file(&p, 'c', &arena, &files.config) && own_file(&p, 'm', &arena, &files.modelopt) &&
        own_file(&p, 'g', &arena, &files.gptq) && own_file(&p, 'a', &arena, &files.awq)) {
        if (lb_foreign_open(s, &files, false, &notes, &made, &err) != LB_OK)
            LB_ASSERT(err.msg[0] != 0);
        else
            for (u64 i = 0; made && i < s->n_weights; i++)
                decode(s, &s->weights[i], &k);
    }
    lb_source_close(&s);
    lb_buf_deinit(&notes);
    lb_arena_deinit(&arena);
    return 0;
}
