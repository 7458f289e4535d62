/* SPDX-License-Identifier: Apache-2.0 */
/* tok_legacy.c: vocab.json and merges.txt of a folder without tokenizer.json, as the tokenizer.json
 * that transformers' classes make of them.
 *
 * Only classes whose steps are known: Qwen2Tokenizer and GPT2Tokenizer (transformers 5.24). */
#include "text/pre.h"
#include "text/tok_folder.h"

/* NULL: a class of another kind, or none. */
static const lb_pre_form *form_of(const lb_tok_folder *f) {
    static const struct {
        const char *class_name, *pre;
    } rows[] = {{"Qwen2Tokenizer", "qwen2"}, {"GPT2Tokenizer", "gpt-2"}};
    for (u32 i = 0; i < LB_LEN(rows); i++)
        if (lb_str_eq_c(lb_tok_class_name(f), rows[i].class_name))
            return lb_pre_form_by_name(lb_str_c(rows[i].pre));
    return NULL;
}

bool lb_tok_has_legacy(const lb_tok_folder *f) {
    return lb_tok_has_tiktoken(f) ||
           (lb_tok_folder_has(f, "vocab.json") && lb_tok_folder_has(f, "merges.txt") && form_of(f));
}

/* Lines "left right" become strings of the list; "#version" and empty lines are passed over. */
static void put_merges(lb_buf *out, lb_str text) {
    bool any = false;
    for (size_t pos = 0; pos < text.len;) {
        size_t end = pos;
        while (end < text.len && text.ptr[end] != '\n')
            end++;
        lb_str line = lb_str_sub(text, pos, end);
        pos = end + 1;
        if (lb_str_ends(line, LB_STR("\r")))
            line = lb_str_sub(line, 0, line.len - 1);
        if (!line.len || lb_str_starts(line, LB_STR("#version")))
            continue;
        lb_buf_put_c(out, any ? "," : "");
        lb_json_write_str(out, line, false);
        any = true;
    }
}

lb_status lb_tok_legacy_text(const lb_tok_folder *f, lb_arena *arena, lb_str *out, lb_err *err) {
    const lb_pre_form *form = form_of(f);
    lb_str vocab, merges;
    lb_json *checked;
    bool found;
    lb_buf b = {0};
    if (lb_tok_has_tiktoken(f))
        return lb_tok_tiktoken_text(f, arena, out, err);
    LB_TRY(lb_tok_folder_read_to(f, "vocab.json", arena, &vocab, &found, err));
    LB_TRY(lb_json_parse(vocab, "vocab.json", arena, &checked, err));
    LB_TRY(lb_tok_folder_read_to(f, "merges.txt", arena, &merges, &found, err));
    lb_buf_put_c(&b, "{\"added_tokens\":[],\"normalizer\":");
    lb_json_write(&b, lb_pre_form_normalizer(form, arena), (lb_json_style){.compact = true});
    lb_buf_put_c(&b, ",\"pre_tokenizer\":");
    lb_json_write(&b, lb_pre_form_pre_tokenizer(form, arena), (lb_json_style){.compact = true});
    lb_buf_put_c(&b, ",\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
                     "\"model\":{\"type\":\"BPE\",\"merges\":[");
    put_merges(&b, merges);
    lb_buf_put_c(&b, "],\"vocab\":");
    lb_buf_put_str(&b, vocab);
    lb_buf_put_c(&b, "}}");
    lb_status st = lb_buf_status(&b, err);
    *out = lb_arena_str(arena, lb_buf_str(&b));
    lb_buf_deinit(&b);
    if (st == LB_OK && !out->ptr)
        st = lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory");
    return st;
}
