/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_plan.c: what convert plans for any names, types and shapes of tensors and any config or
 * metadata; nothing is read or written (--dry-run).
 *
 * Parts (parts.h): f two letters, the format of the source (h, m, g, s) and of the output (h, m,
 * g); c config.json; d GGUF metadata; t tensors, a line each "name type 2,3"; j, k, m the tokenizer
 * files as in fuzz_tok_folder. Checked: no crash, and a refusal has a message. */
#include "format/mlx.h"
#include "fuzz/parts.h"
#include "kernel/kernel.h"
#include "ops/convert.h"
#include "ops/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES ((u64)1 << 40)

static void add_tensor(lb_source *s, lb_str line, u64 *off) {
    lb_str name = parts_field(&line, ' '), type = parts_field(&line, ' ');
    lb_tensor t = {.name = name, .off_bytes = *off};
    u64 n;
    while (line.len && t.shape.rank < LB_RANK_MAX) {
        u64 *dim = &t.shape.dim[t.shape.rank++];
        if (!lb_str_to_u64(parts_field(&line, ','), dim))
            return;
    }
    (void)lb_dtype_find(type, &t.dtype);
    if (!lb_shape_elems(&t.shape, &n) || !lb_dtype_bytes(t.dtype, n, &t.size_bytes) ||
        t.size_bytes > FILE_BYTES - t.off_bytes)
        return;
    if (lb_source_add_tensor(s, &t, NULL) == LB_OK)
        *off += t.size_bytes;
}

static lb_status add_weights(lb_source *s, bool mlx, lb_arena *a, lb_err *err) {
    lb_mlx_quant q = {0};
    lb_json *config = NULL;
    lb_status st = LB_OK;
    if (mlx && s->config.len)
        LB_TRY(lb_json_parse(s->config, "config.json", a, &config, err));
    if (config) {
        st = lb_mlx_quant_parse(config, &s->perm, &q, err);
        if (st == LB_OK)
            st = lb_mlx_weights(s, &q, err);
        lb_mlx_quant_deinit(&q);
        return st;
    }
    for (u64 i = 0; i < s->n_tensors && st == LB_OK; i++) {
        lb_weight w = {.name = s->tensors[i].name,
                       .shape = s->tensors[i].shape,
                       .n_parts = 1,
                       .part = {(u32)i}};
        st = lb_source_add_weight(s, &w, err);
    }
    return st;
}

static lb_status fill(lb_source *s, const parts *p, lb_gguf_meta *meta, lb_arena *a, lb_err *err) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model",
                                        "tokenizer_config.json"};
    lb_str lines = part(p, 't');
    u64 off = 0;
    s->files = lb_arena_new(&s->perm, lb_file, 1);
    if (!s->files)
        return LB_E_NOMEM;
    s->files[0] = (lb_file){
        .path = "/nonexistent", .name = LB_STR("model.safetensors"), .size_bytes = FILE_BYTES};
    s->n_files = 1;
    while (lines.len)
        add_tensor(s, parts_field(&lines, '\n'), &off);
    if (s->format == LB_FORMAT_GGUF) {
        parts_meta(part(p, 'd'), meta, a);
        s->gguf = meta;
    } else {
        s->config = part(p, 'c');
        parts_sides(p, "jmk", names, s);
    }
    return add_weights(s, s->format == LB_FORMAT_MLX, a, err);
}

static void plan(const lb_source *s, char to, lb_arena *a) {
    static lb_kernels kernels;
    lb_convert_opts o = {.verb = "convert"};
    lb_buf text = {0}, remarks = {0}, json = {0};
    lb_out_report report = {0};
    lb_inspect info;
    lb_err err = {0};
    lb_kernels_init(&kernels, 0);
    o.w = (lb_writer_opts){.output = "/nonexistent/out",
                           .to = to == 'h'   ? LB_TO_HF
                                 : to == 'm' ? LB_TO_MLX
                                             : LB_TO_GGUF,
                           .memory_bytes = 256 * LB_MIB,
                           .threads = 2,
                           .dry_run = true,
                           .kernels = &kernels};
    if (lb_convert(s, &o, &text, &remarks, &report, &err) != LB_OK)
        LB_ASSERT(err.msg[0]);
    if (lb_inspect_run(&info, s, a, &err) == LB_OK)
        (void)lb_inspect_json(&info, &json, &err);
    lb_buf_deinit(&text);
    lb_buf_deinit(&remarks);
    lb_buf_deinit(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char letters[] = "smgh";
    static const lb_format formats[] = {LB_FORMAT_SAFETENSORS, LB_FORMAT_MLX, LB_FORMAT_GGUF,
                                        LB_FORMAT_HF};
    lb_arena arena = {.max_bytes = 256 * LB_MIB};
    lb_err err = {0};
    lb_gguf_meta meta;
    parts p;
    parts_split(&p, data, size);
    lb_str f = part(&p, 'f');
    const char *at = f.len == 2 && f.ptr[0] ? strchr(letters, f.ptr[0]) : NULL;
    lb_source *s = at ? lb_source_new(formats[at - letters], "fuzz") : NULL;
    lb_meta_init(&meta, &arena);
    if (s && fill(s, &p, &meta, &arena, &err) == LB_OK)
        plan(s, f.ptr[1], &arena);
    lb_source_close(&s);
    lb_meta_deinit(&meta);
    lb_arena_deinit(&arena);
    return 0;
}
