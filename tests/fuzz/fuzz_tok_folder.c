/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tok_folder.c: the tokenizer files of a folder -> GGUF keys, kept, and the files again.
 *
 * Parts (parts.h): a added_tokens.json, c config.json, g generation_config.json, j tokenizer.json,
 * k tokenizer_config.json, m tokenizer.model, r tiktoken.model, s special_tokens_map.json, t
 * chat_template.jinja.
 * Checked: no crash; keys that were written can be read as files; what was kept comes back as it
 * was. */
#include "fuzz/parts.h"
#include "text/tokdata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* White space and escapes may differ where a file is not written as the library writes it. */
static bool same_json(lb_str x, lb_str y, lb_arena *a) {
    lb_buf text[2] = {{0}, {0}};
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++) {
        lb_json *v;
        ok = lb_json_parse(i ? y : x, "compared", a, &v, NULL) == LB_OK;
        if (ok) {
            lb_json_sort_keys(v);
            lb_json_write(&text[i], v, (lb_json_style){.ascii = true});
        }
    }
    ok = ok && lb_str_eq(lb_buf_str(&text[0]), lb_buf_str(&text[1]));
    lb_buf_deinit(&text[0]);
    lb_buf_deinit(&text[1]);
    return ok;
}

/* ptr is NULL where the arena is full. */
static lb_str bytes_of(const lb_tok_file *f, lb_arena *a) {
    lb_buf b = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &b};
    LB_ASSERT(lb_tok_file_write(f, &out, NULL) == LB_OK);
    LB_ASSERT(lb_out_end(&out, NULL) == LB_OK);
    lb_str s = lb_arena_str(a, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return s;
}

static void compare(const parts *p, const lb_tok_file *files, u64 n, lb_arena *a) {
    for (u64 i = 0; i < n; i++) {
        lb_str bytes = bytes_of(&files[i], a);
        LB_ASSERT(files[i].name.len > 0);
        if (!bytes.ptr) /* more than the arena takes */
            continue;
        if (lb_str_eq_c(files[i].name, "tokenizer.json") && part(p, 'j').ptr)
            LB_ASSERT(same_json(bytes, part(p, 'j'), a));
        bool own = part(p, 'j').ptr || part(p, 'm').ptr; /* else all is made anew */
        if (lb_str_eq_c(files[i].name, "tokenizer_config.json") && part(p, 'k').len && own)
            LB_ASSERT(lb_str_eq(bytes, part(p, 'k')) || !lb_str_is_utf8(part(p, 'k')));
    }
}

static void convert(const lb_source *s, const parts *p, lb_arena *a) {
    static const char *const archs[] = {"llama", "qwen2", "gemma3", "internlm2"};
    lb_tok_opts opts = {.n_vocab = part(p, 'c').len % 3 ? 40 : 0, .keep = true};
    lb_tok *tok;
    lb_gguf_meta meta;
    lb_tok_file *files;
    u64 n;
    lb_err err = {0};
    opts.arch = lb_str_c(archs[part(p, 'c').len % LB_LEN(archs)]);
    lb_meta_init(&meta, a);
    lb_status st = lb_tok_open(&tok, s, &err);
    if (st == LB_OK)
        st = lb_tok_to_meta(tok, &opts, &meta, NULL, &err);
    LB_ASSERT(st == LB_OK || err.msg[0]);
    if (st == LB_OK && lb_tok_keep(tok, &meta, &meta, &err) == LB_OK &&
        lb_tok_files_from_meta(&meta, a, &files, &n, &err) == LB_OK)
        compare(p, files, n, a);
    lb_tok_close(&tok);
    lb_meta_deinit(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {
        "added_tokens.json",      "chat_template.jinja",     "config.json",
        "generation_config.json", "special_tokens_map.json", "tiktoken.model",
        "tokenizer.json",         "tokenizer.model",         "tokenizer_config.json"};
    lb_arena arena = {.max_bytes = 256 * LB_MIB};
    lb_source *s = lb_source_new(LB_FORMAT_HF, "fuzz");
    parts p;
    parts_split(&p, data, size);
    if (s) {
        parts_sides(&p, "atcgsrjmk", names, s);
        s->config = part(&p, 'c');
        convert(s, &p, &arena);
    }
    lb_source_close(&s);
    lb_arena_deinit(&arena);
    return 0;
}
