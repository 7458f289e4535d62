/* SPDX-License-Identifier: Apache-2.0 */
/* A config.json, a NUL, and a safetensors header: the folder's interpretation without a folder. */
#include "format/foreign.h"
#include "format/mlx.h"
#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The packed bits must be those of the values. */
static void check(const lb_source *s) {
    u64 n_parts = 0;
    for (u64 i = 0; i < s->n_weights; i++) {
        const lb_weight *w = &s->weights[i];
        const lb_tensor *t = &s->tensors[w->part[0]];
        u64 n, row = w->shape.rank ? w->shape.dim[w->shape.rank - 1] : 1;
        n_parts += w->n_parts;
        if (w->enc.kind == LB_ENC_PLAIN) {
            LB_ASSERT(lb_shape_eq(&w->shape, &t->shape) && w->n_parts == 1);
            continue;
        }
        LB_ASSERT(lb_shape_elems(&w->shape, &n) || t->n_elems == 0);
        LB_ASSERT(row % w->enc.group_size == 0);
        LB_ASSERT(row / 32 * w->enc.bits == t->shape.dim[t->shape.rank - 1] || row % 32 != 0);
    }
    LB_ASSERT(n_parts == s->n_tensors);
}

static void interpret(lb_source *s, const lb_json *config, bool mlx) {
    lb_mlx_quant q;
    lb_err err = {0};
    bool packed;
    if (lb_mlx_quant_parse(config, &s->perm, &q, &err) == LB_OK &&
        lb_mlx_is_packed(s, &packed, &err) == LB_OK) {
        lb_foreign_files files = {q.present ? NULL : config, config, config, config};
        lb_status st = lb_foreign_check(s, &files, mlx, &err);
        if (st == LB_OK)
            st = lb_mlx_weights(s, &q, &err);
        if (st == LB_OK)
            check(s);
        else
            LB_ASSERT(err.msg[0] != 0);
    }
    lb_mlx_quant_deinit(&q);
}

static void add_tensors(lb_source *s, lb_str header, u64 data_bytes) {
    lb_arena scratch = {0};
    lb_st_dir dir;
    lb_file *file = lb_arena_new(&s->perm, lb_file, 1);
    if (!file)
        return;
    *file = (lb_file){.path = "f", .name = LB_STR("f"), .size_bytes = 8 + header.len + data_bytes};
    s->files = file;
    s->n_files = 1;
    if (lb_st_parse(header, file->size_bytes, &s->perm, &scratch, &dir, NULL) == LB_OK)
        for (u64 i = 0; i < dir.n_tensors; i++)
            LB_ASSERT(lb_source_add_tensor(s, &dir.tensors[i], NULL) == LB_OK);
    lb_arena_deinit(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lb_arena arena = {0};
    lb_json *config;
    const uint8_t *nul = size > 4 ? memchr(data + 4, 0, size - 4) : NULL;
    lb_source *s = lb_source_new(LB_FORMAT_HF, "fuzz");
    if (nul && s) {
        lb_str text = {(const char *)data + 4, (size_t)(nul - data) - 4};
        lb_str header = {(const char *)nul + 1, size - (size_t)(nul - data) - 1};
        add_tensors(s, header, lb_load_u32(data) >> 1);
        if (lb_json_parse(text, "config.json", &arena, &config, NULL) == LB_OK)
            interpret(s, config, data[0] & 1);
    }
    lb_source_close(&s);
    lb_arena_deinit(&arena);
    return 0;
}
