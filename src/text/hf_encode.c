/* SPDX-License-Identifier: Apache-2.0 */
/* hf_encode.c: the steps of encoding, in the library's order. */
#include "text/hf_encode.h"

#include "text/bytelevel.h"
#include <stdlib.h>
#include <utf8proc.h>

/* ---- added tokens ---- */

static int compare_patterns(const void *a, const void *b) {
    const struct lb_added_pattern *x = a, *y = b;
    int c = lb_str_cmp(x->text, y->text);
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static lb_status add_pattern(lb_hf_enc *e, lb_added_set *set, u32 index, bool normalize,
                             lb_err *err) {
    lb_str text = e->tok->added[index].content;
    if (normalize) {
        lb_buf normal = {0};
        lb_status st = lb_norm_run(e->norm, text, &normal, err);
        if (st == LB_OK) {
            text = lb_arena_str(&e->arena, lb_buf_str(&normal));
            if (!text.ptr)
                st = lb_fail(err, LB_E_NOMEM, "out of memory for the added tokens");
        }
        lb_buf_deinit(&normal);
        LB_TRY(st);
    }
    if (text.len)
        set->v[set->n++] = (struct lb_added_pattern){text, index};
    return LB_OK;
}

static lb_status build_sets(lb_hf_enc *e, lb_err *err) {
    const lb_hf_tok *t = e->tok;
    e->raw.v = lb_arena_new(&e->arena, struct lb_added_pattern, t->n_added);
    e->normalized.v = lb_arena_new(&e->arena, struct lb_added_pattern, t->n_added);
    if (t->n_added && (!e->raw.v || !e->normalized.v))
        return lb_fail(err, LB_E_NOMEM, "out of memory for the added tokens");
    for (u64 i = 0; i < t->n_added; i++) {
        bool normalized = t->added[i].normalized;
        /* A lone surrogate cannot stand in a text: such a token never matches. */
        if (lb_str_is_utf8(t->added[i].content))
            LB_TRY(add_pattern(e, normalized ? &e->normalized : &e->raw, (u32)i, normalized, err));
    }
    if (e->raw.n)
        qsort(e->raw.v, (size_t)e->raw.n, sizeof *e->raw.v, compare_patterns);
    if (e->normalized.n)
        qsort(e->normalized.v, (size_t)e->normalized.n, sizeof *e->normalized.v, compare_patterns);
    return LB_OK;
}

/* The first entry of [lo, hi) whose byte k is at least c (entries share their first k bytes; those
 * of length k come first). */
static u64 lower_bound(const lb_added_set *set, u64 lo, u64 hi, size_t k, u32 c) {
    while (lo < hi) {
        u64 mid = lo + (hi - lo) / 2;
        const lb_str *s = &set->v[mid].text;
        if (s->len > k && (u8)s->ptr[k] >= c)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* The longest pattern at text[pos]; NULL: none. */
static const struct lb_added_pattern *longest_at(const lb_added_set *set, lb_str text, size_t pos) {
    const struct lb_added_pattern *best = NULL;
    u64 lo = 0, hi = set->n;
    for (size_t k = 0; pos + k < text.len && lo < hi; k++) {
        u32 c = (u8)text.ptr[pos + k];
        lo = lower_bound(set, lo, hi, k, c);
        hi = lower_bound(set, lo, hi, k, c + 1);
        if (lo < hi && set->v[lo].text.len == k + 1)
            best = &set->v[lo];
    }
    return best;
}

/* The code point before pos, and where it starts. */
static u32 char_before(lb_str text, size_t pos, size_t *start) {
    size_t i = pos - 1;
    while (i > 0 && ((u8)text.ptr[i] & 0xc0) == 0x80)
        i--;
    *start = i;
    return lb_utf8_next(text, &i);
}

/* \w of Rust's regex: Alphabetic, marks, digits, connectors, joiners (UTS 18). Alphabetic beside
 * letters and letter numbers: symbols in circles and squares (PropList.txt, Other_Alphabetic). */
static bool is_word(u32 cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NL) || c == UTF8PROC_CATEGORY_PC ||
           (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) ||
           (cp >= 0x1f150 && cp <= 0x1f169) || (cp >= 0x1f170 && cp <= 0x1f189) || cp == 0x200c ||
           cp == 0x200d;
}

static bool stands_alone(lb_str text, size_t from, size_t to) {
    size_t at;
    if (from && is_word(char_before(text, from, &at)))
        return false;
    at = to;
    return to == text.len || !is_word(lb_utf8_next(text, &at));
}

static void widen(const lb_hf_added *a, lb_str text, size_t least, size_t *from, size_t *to) {
    size_t at;
    while (a->lstrip && *from > least && lb_cp_is_space(char_before(text, *from, &at)))
        *from = at;
    while (a->rstrip && (at = *to) < text.len && lb_cp_is_space(lb_utf8_next(text, &at)))
        *to = at;
}

/* Cuts a piece of text at the added tokens of a set. */
static lb_status split_added(const lb_hf_enc *e, const lb_added_set *set, const lb_piece *piece,
                             lb_pieces *out, lb_err *err) {
    lb_str text = piece->text;
    size_t done = 0;
    for (size_t pos = 0; pos < text.len;) {
        const struct lb_added_pattern *p = longest_at(set, text, pos);
        if (!p) {
            pos++;
            continue;
        }
        const lb_hf_added *a = &e->tok->added[p->index];
        size_t from = pos, to = pos + p->text.len;
        pos = to;
        if (a->single_word && !stands_alone(text, from, to))
            continue;
        widen(a, text, done, &from, &to);
        if (done < from)
            LB_TRY(lb_pieces_push(out, lb_str_sub(text, done, from), LB_PIECE_TEXT,
                                  piece->first && done == 0, err));
        LB_TRY(lb_pieces_push(out, lb_str_sub(text, LB_MIN(from, to), to), a->id,
                              piece->first && from == 0, err));
        done = to; /* blanks that the token took may begin the next one all the same */
    }
    if (done < text.len)
        return lb_pieces_push(out, lb_str_sub(text, done, text.len), LB_PIECE_TEXT,
                              piece->first && done == 0, err);
    return LB_OK;
}

static lb_status split_and_normalize(const lb_hf_enc *e, lb_str text, lb_pieces *out,
                                     lb_arena *scratch, lb_err *err) {
    lb_pieces raw = {0};
    lb_buf normal = {0};
    lb_piece whole = {text, LB_PIECE_TEXT, true};
    lb_status st = split_added(e, &e->raw, &whole, &raw, err);
    for (u64 i = 0; st == LB_OK && i < raw.n; i++) {
        lb_piece piece = raw.v[i];
        if (piece.id != LB_PIECE_TEXT) {
            st = lb_pieces_push(out, piece.text, piece.id, piece.first, err);
            continue;
        }
        LB_TRY_DONE(st, lb_norm_run(e->norm, piece.text, &normal, err));
        piece.text = lb_arena_str(scratch, lb_buf_str(&normal));
        if (!piece.text.ptr) {
            st = lb_fail(err, LB_E_NOMEM, "out of memory for a normalized text");
            goto done;
        }
        st = split_added(e, &e->normalized, &piece, out, err);
    }
done:
    lb_pieces_deinit(&raw);
    lb_buf_deinit(&normal);
    return st;
}

/* ---- the post-processor: what it puts around one text ---- */

static lb_status put_template(lb_hf_enc *e, const lb_json *json, lb_err *err) {
    const lb_json *single = lb_json_get(json, "single");
    const lb_json *known = lb_json_get(json, "special_tokens");
    lb_buf *to = &e->before;
    for (const lb_json *o = single ? single->first : NULL; o; o = o->next) {
        lb_str name;
        u64 id;
        if (lb_json_get(o, "Sequence"))
            to = &e->after;
        if (!lb_json_as_str(lb_json_path(o, "SpecialToken.id"), &name))
            continue;
        const lb_json *ids = lb_json_get(lb_json_get_str(known, name), "ids");
        for (const lb_json *v = ids ? ids->first : NULL; v; v = v->next) {
            if (!lb_json_as_u64(v, &id) || id > UINT32_MAX)
                return lb_fail(err, LB_E_FORMAT, "post_processor: an id that is no id");
            lb_buf_put_u32(to, (u32)id);
        }
    }
    return LB_OK;
}

/* ["text", id] */
static lb_status put_pair(const lb_json *pair, lb_buf *to, lb_err *err) {
    u64 id;
    if (!pair || pair->n != 2 || !lb_json_as_u64(pair->last, &id) || id > UINT32_MAX)
        return lb_fail(err, LB_E_FORMAT, "post_processor: [text, id] expected");
    lb_buf_put_u32(to, (u32)id);
    return LB_OK;
}

/* Recursion: as deep as the JSON, LB_JSON_DEPTH. */
static lb_status read_post(lb_hf_enc *e, const lb_json *json, lb_err *err) {
    lb_str type;
    if (!json || json->type == LB_JNULL)
        return LB_OK;
    if (!lb_json_as_str(lb_json_get(json, "type"), &type))
        return lb_fail(err, LB_E_FORMAT, "post_processor without \"type\"");
    if (lb_str_eq_c(type, "Sequence")) {
        const lb_json *list = lb_json_get(json, "processors");
        for (const lb_json *v = list ? list->first : NULL; v; v = v->next)
            LB_TRY(read_post(e, v, err));
        return LB_OK;
    }
    if (lb_str_eq_c(type, "TemplateProcessing"))
        return put_template(e, json, err);
    if (lb_str_eq_c(type, "RobertaProcessing") || lb_str_eq_c(type, "BertProcessing")) {
        LB_TRY(put_pair(lb_json_get(json, "cls"), &e->before, err));
        return put_pair(lb_json_get(json, "sep"), &e->after, err);
    }
    if (lb_str_eq_c(type, "ByteLevel")) /* changes offsets only */
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED, "post_processor \"%.*s\" is not known here",
                   LB_FMT(type));
}

/* ---- ---- */

lb_status lb_hf_enc_init(lb_hf_enc *e, const lb_hf_tok *tok, lb_err *err) {
    *e = (lb_hf_enc){.tok = tok};
    lb_status st = LB_OK;
    LB_TRY_DONE(st, lb_norm_new(&e->norm, lb_json_get(tok->rest, "normalizer"), err));
    LB_TRY_DONE(st, lb_pretok_new(&e->pretok, lb_json_get(tok->rest, "pre_tokenizer"), err));
    LB_TRY_DONE(st, read_post(e, lb_json_get(tok->rest, "post_processor"), err));
    LB_TRY_DONE(st, build_sets(e, err));
    LB_TRY_DONE(st, lb_bpe_init(&e->bpe, tok, err));
    LB_TRY_DONE(st, lb_buf_status(&e->before, err));
    LB_TRY_DONE(st, lb_buf_status(&e->after, err));
done:
    if (st != LB_OK)
        lb_hf_enc_deinit(e);
    return st;
}

void lb_hf_enc_deinit(lb_hf_enc *e) {
    lb_norm_free(&e->norm);
    lb_pretok_free(&e->pretok);
    lb_bpe_deinit(&e->bpe);
    lb_buf_deinit(&e->before);
    lb_buf_deinit(&e->after);
    lb_arena_deinit(&e->arena);
    e->raw = e->normalized = (lb_added_set){0};
}

lb_status lb_hf_encode(const lb_hf_enc *e, lb_str text, bool special, lb_buf *ids, lb_err *err) {
    lb_arena scratch = {0};
    lb_pieces pieces = {0};
    lb_bpe_work work = {0};
    lb_status st = LB_OK;
    if (!lb_str_is_utf8(text))
        return lb_fail(err, LB_E_FORMAT, "the text is not valid UTF-8");
    LB_TRY_DONE(st, split_and_normalize(e, text, &pieces, &scratch, err));
    LB_TRY_DONE(st, lb_pretok_run(e->pretok, &pieces, &scratch, err));
    if (special)
        lb_buf_put(ids, e->before.ptr, e->before.len);
    for (u64 i = 0; i < pieces.n; i++) {
        if (pieces.v[i].id != LB_PIECE_TEXT)
            lb_buf_put_u32(ids, pieces.v[i].id);
        else
            LB_TRY_DONE(st, lb_bpe_encode(&e->bpe, &work, pieces.v[i].text, ids, err));
    }
    if (special)
        lb_buf_put(ids, e->after.ptr, e->after.len);
    st = lb_buf_status(ids, err);
done:
    lb_bpe_work_deinit(&work);
    lb_pieces_deinit(&pieces);
    lb_arena_deinit(&scratch);
    return st;
}
