/* SPDX-License-Identifier: Apache-2.0 */
/* tok_bpe.c: a tokenizer.json of byte-level BPE -> GGUF "gpt2" (the reference's _set_vocab_gpt2).
 *
 * llama.cpp takes the text of CONTROL and USER_DEFINED tokens as it comes in a prompt, so the text
 * of an added token is what the tokenizer decodes it to, not its form in the byte alphabet. */
#include "text/tok_job.h"

#include "text/bytelevel.h"
#include "text/pre.h"
#include "text/special.h"

/* Replaces every `from` by `to`. */
static lb_status replace_all(lb_tok_job *j, lb_str *s, lb_str from, lb_str to, lb_err *err) {
    lb_buf b = {0};
    for (size_t i = 0; i < s->len;) {
        if (from.len && lb_str_starts(lb_str_sub(*s, i, s->len), from)) {
            lb_buf_put_str(&b, to);
            i += from.len;
        } else {
            lb_buf_put_u8(&b, (u8)s->ptr[i++]);
        }
    }
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK) {
        *s = lb_arena_str(&j->f->arena, lb_buf_str(&b));
        if (!s->ptr)
            st = lb_tok_no_memory(err);
    }
    lb_buf_deinit(&b);
    return st;
}

/* What the tokenizer's decoder makes of one token alone. */
static lb_status decode_token(lb_tok_job *j, const lb_json *decoder, lb_str *token, lb_err *err) {
    lb_str type = LB_STR_NONE, from, to;
    (void)lb_json_as_str(lb_json_get(decoder, "type"), &type);
    if (lb_str_eq_c(type, "Sequence")) { /* recursion: as deep as the JSON */
        const lb_json *list = lb_json_get(decoder, "decoders");
        for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
            LB_TRY(decode_token(j, v, token, err));
        return LB_OK;
    }
    if (lb_str_eq_c(type, "Replace") &&
        lb_json_as_str(lb_json_path(decoder, "pattern.String"), &from) &&
        lb_json_as_str(lb_json_get(decoder, "content"), &to))
        return replace_all(j, token, from, to, err);
    bool bytes = lb_str_eq_c(type, "ByteLevel");
    if (!bytes && !(lb_str_eq_c(type, "ByteFallback") && lb_tok_is_byte(*token)))
        return LB_OK;
    lb_buf raw = {0}, text = {0};
    lb_status st = LB_OK;
    if (bytes) {
        if (!lb_bytelevel_decode(&raw, *token))
            goto done; /* a character outside the alphabet: the token's own text */
    } else {
        static const char digits[] = "0123456789abcdef";
        u32 hi = (u32)(strchr(digits, token->ptr[3] | 0x20) - digits);
        u32 lo = (u32)(strchr(digits, token->ptr[4] | 0x20) - digits);
        lb_buf_put_u8(&raw, (u8)(hi << 4 | lo));
    }
    lb_utf8_put_lossy(&text, lb_buf_str(&raw));
    LB_TRY_DONE(st, lb_buf_status(&text, err));
    *token = lb_arena_str(&j->f->arena, lb_buf_str(&text));
    if (!token->ptr)
        st = lb_tok_no_memory(err);
done:
    lb_buf_deinit(&raw);
    lb_buf_deinit(&text);
    return st;
}

static lb_status bpe_added(lb_tok_job *j, const lb_hf_added *a, lb_err *err) {
    lb_str text = a->content;
    if (!a->normalized)
        LB_TRY(decode_token(j, lb_json_get(j->f->tok.rest, "decoder"), &text, err));
    bool special = a->special || lb_tok_looks_special(text);
    if (!special)
        LB_TRY(lb_tok_with_spaces(j, text, &text, err));
    return lb_tok_set(j, a->id, text, special ? LB_SPM_CONTROL : LB_SPM_USER_DEFINED, err);
}

/* Whether a token beyond the model's vocabulary only came with transformers' class (the first
 * n_listed are the file's own): no text ever gave it, and the model has no row for it. */
static bool is_of_class(const lb_tok_job *j, u64 i, u64 n_listed) {
    const lb_tok_default *d = lb_tok_class_defaults(j->f);
    while (d->key && !lb_str_eq_c(j->f->tok.added[i].content, d->text))
        d++;
    return i >= n_listed || d->key;
}

static u64 leave_out_beyond(lb_tok_job *j, u64 n_listed, u64 size) {
    lb_hf_tok *t = &j->f->tok;
    u64 kept = 0, n = t->n_ids;
    for (u64 i = 0; i < t->n_added; i++) {
        if (size && t->added[i].id >= size && is_of_class(j, i, n_listed))
            continue;
        n = LB_MAX(n, (u64)t->added[i].id + 1);
        t->added[kept++] = t->added[i];
    }
    t->n_added = kept;
    return n;
}

static lb_status bpe_tokens(lb_tok_job *j, u64 n_listed, lb_err *err) {
    const lb_hf_tok *t = &j->f->tok;
    u64 size = j->opts->n_vocab, n = leave_out_beyond(j, n_listed, size);
    if (!size) { /* Python: len(tokenizer.vocab) */
        size = t->n_vocab;
        for (u64 i = 0; i < t->n_added; i++)
            size += !t->added[i].in_vocab;
    }
    if (n > size)
        return lb_fail(err, LB_E_FORMAT,
                       "tokenizer.json has token %llu, but the model's vocabulary has %llu tokens",
                       (unsigned long long)n - 1, (unsigned long long)size);
    LB_TRY(lb_tok_make_arrays(j, size, false, err));
    for (u64 i = 0; i < size; i++) {
        LB_TRY(lb_texts_has(&t->token, i)
                   ? lb_tok_set(j, i, lb_texts_get(&t->token, i), LB_SPM_NORMAL, err)
                   : lb_tok_pad(j, i, err));
    }
    for (u64 i = 0; i < t->n_added; i++)
        LB_TRY(bpe_added(j, &t->added[i], err));
    return LB_OK;
}

/* "left right"; a space inside a part becomes U+0120, its character in the byte alphabet. */
static lb_status bpe_merges(lb_tok_job *j, lb_texts *out, lb_err *err) {
    const lb_hf_tok *t = &j->f->tok;
    lb_buf b = {0};
    lb_status st = lb_texts_reserve(out, t->n_merges, 0, err);
    for (u64 i = 0; i < t->n_merges && st == LB_OK; i++) {
        lb_buf_reset(&b);
        for (u32 side = 0; side < 2; side++) {
            lb_str part = lb_hf_tok_part(t, i, side);
            if (side)
                lb_buf_put_u8(&b, ' ');
            for (size_t k = 0; k < part.len; k++) {
                if (part.ptr[k] == ' ')
                    lb_utf8_put(&b, lb_bytelevel_char(' '));
                else
                    lb_buf_put_u8(&b, (u8)part.ptr[k]);
            }
        }
        st = lb_buf_status(&b, err);
        if (st == LB_OK)
            st = lb_texts_add(out, lb_buf_str(&b), err);
    }
    lb_buf_deinit(&b);
    return st;
}

/* merges.txt: where tokenizer.json has no merges. Lines of two words; others are passed over. */
static lb_status line_merge(lb_str line, lb_buf *both, lb_texts *out, lb_err *err) {
    lb_str word[2];
    u32 words = 0;
    for (size_t i = 0; i < line.len; words++) {
        while (i < line.len && strchr(" \t\r\v\f", line.ptr[i]))
            i++;
        size_t from = i;
        while (i < line.len && !strchr(" \t\r\v\f", line.ptr[i]))
            i++;
        if (from == i)
            break;
        if (words < 2)
            word[words] = lb_str_sub(line, from, i);
    }
    if (words != 2)
        return LB_OK;
    lb_buf_reset(both);
    lb_buf_put_str(both, word[0]);
    lb_buf_put_u8(both, ' ');
    lb_buf_put_str(both, word[1]);
    LB_TRY(lb_buf_status(both, err));
    return lb_texts_add(out, lb_buf_str(both), err);
}

static lb_status file_merges(lb_tok_job *j, lb_texts *out, lb_err *err) {
    lb_arena scratch = {0};
    lb_buf both = {0};
    lb_str text;
    bool found, first = true;
    lb_status st = lb_tok_folder_read_to(j->f, "merges.txt", &scratch, &text, &found, err);
    for (size_t pos = 0; st == LB_OK && pos < text.len; first = false) {
        size_t end = pos;
        while (end < text.len && text.ptr[end] != '\n')
            end++;
        lb_str line = lb_str_sub(text, pos, end);
        pos = end + 1;
        if (!(first && line.len && line.ptr[0] == '#'))
            st = line_merge(line, &both, out, err);
    }
    lb_buf_deinit(&both);
    lb_arena_deinit(&scratch);
    return st;
}

lb_status lb_tok_read_merges(lb_tok_job *j, lb_texts *out, lb_err *err) {
    return j->f->tok.n_merges && (!j->f->made || lb_tok_has_tiktoken(j->f))
               ? bpe_merges(j, out, err)
               : file_merges(j, out, err);
}

lb_status lb_tok_way_bpe(lb_tok_job *j, lb_err *err) {
    LB_TRY(lb_tok_folder_tokenizer(j->f, true, err));
    const lb_hf_tok *t = &j->f->tok;
    if (t->kind != LB_HF_BPE)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tokenizer.json: its model is no BPE, which is all that this architecture "
                       "takes");
    j->info.n_embd_rows = t->n_vocab + t->n_added; /* counted as the reference counts (gemma3) */
    u64 n_listed = t->n_added;
    LB_TRY(lb_tok_folder_add_configured(j->f, err));
    u64 n_added = t->n_added;
    lb_pre_found pre = {0};
    if (!j->opts->pre.len) {
        lb_status found = lb_pre_detect(t, j->f->tok_config, &pre, err);
        if (found != LB_OK) {
            lb_err_context(err, "tokenizer.json");
            return found;
        }
    }
    LB_TRY(bpe_tokens(j, n_listed, err));
    LB_TRY(lb_tok_put_vocab(j, "gpt2", lb_tok_pre(j, pre.pre, pre.how), err));
    lb_texts merges = {0};
    lb_special_opts special = {.n_vocab = t->n_added < n_added ? j->n : 0,
                               .merges = &merges,
                               .named = j->named,
                               .no_pad = j->no_pad};
    lb_status st = lb_tok_read_merges(j, &merges, err);
    if (st == LB_OK)
        st = lb_special_put(j->f, &special, j->meta, err);
    lb_texts_deinit(&merges);
    return st;
}
