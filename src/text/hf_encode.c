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
    if (text.len) {
        set->v[set->n++] = (struct lb_added_pattern){text, index};
        set->begins[(u8)text.ptr[0] / 8] |= (u8)(1u << ((u8)text.ptr[0] % 8));
    }
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

static bool begins_at(const lb_added_set *set, lb_str text, size_t pos) {
    u8 c = (u8)text.ptr[pos];
    return set->begins[c / 8] >> (c % 8) & 1;
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

/* With the blanks that it takes; those on its left from `least` on. */
static void widen(const lb_hf_added *a, lb_str text, size_t least, size_t *from, size_t *to) {
    size_t at;
    if (a->lstrip)
        *from = LB_MAX(*from, least);
    while (a->lstrip && *from > least && lb_cp_is_space(char_before(text, *from, &at)))
        *from = at;
    while (a->rstrip && (at = *to) < text.len && lb_cp_is_space(lb_utf8_next(text, &at)))
        *to = at;
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

/* ---- opening ---- */

static lb_status init_model(lb_hf_enc *e, lb_err *err) {
    static const lb_str mark = {"\xe2\x96\x81", 3}; /* U+2581 */
    lb_hf_kind kind = e->tok->kind;
    if (kind == LB_HF_BPE) {
        LB_TRY(lb_bpe_init(&e->bpe, e->tok, err));
        e->raw_bytes = lb_pretok_ends_in_bytes(e->pretok);
    } else if (kind == LB_HF_UNIGRAM) {
        LB_TRY(lb_unigram_init(&e->unigram, e->tok, err));
    } else {
        LB_TRY(lb_words_init(&e->words, e->tok, err));
    }
    if ((kind == LB_HF_BPE && !e->raw_bytes && lb_bpe_cuts_at(&e->bpe, mark)) ||
        (kind == LB_HF_UNIGRAM && lb_unigram_cuts_at(&e->unigram, mark)))
        e->cut = mark;
    return LB_OK;
}

lb_status lb_hf_enc_init(lb_hf_enc *e, const lb_hf_tok *tok, lb_err *err) {
    *e = (lb_hf_enc){.tok = tok};
    lb_status st = LB_OK;
    LB_TRY_DONE(st, lb_norm_new(&e->norm, lb_json_get(tok->rest, "normalizer"), err));
    LB_TRY_DONE(st, lb_pretok_new(&e->pretok, lb_json_get(tok->rest, "pre_tokenizer"), err));
    LB_TRY_DONE(st, read_post(e, lb_json_get(tok->rest, "post_processor"), err));
    LB_TRY_DONE(st, build_sets(e, err));
    LB_TRY_DONE(st, init_model(e, err));
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
    lb_unigram_deinit(&e->unigram);
    lb_buf_deinit(&e->before);
    lb_buf_deinit(&e->after);
    lb_arena_deinit(&e->arena);
    e->raw = e->normalized = (lb_added_set){0};
}

/* ---- words that came before ---- */

/* A word's bytes and ids stand one behind the other in `pool`; when it is full all is forgotten.
 * Longer words do not come twice. */
enum { WORD_BYTES_MAX = 64, SLOTS = 1 << 17, POOL_BYTES_MAX = 8 << 20 };

typedef struct slot {
    u64 hash;
    u32 at;     /* place in the pool + 1; 0: free */
    u16 len, n; /* bytes, ids */
} slot;

struct lb_hf_work {
    const lb_hf_enc *e;
    lb_pretok_work *pretok;
    lb_bpe_work bpe;
    lb_unigram_work unigram;
    lb_buf scratch, normal;
    slot *slots; /* [SLOTS]; NULL: not yet, or no memory for it */
    u64 n_slots; /* taken */
    lb_buf pool;
    u64 n_bytes; /* encoded so far: a short text needs no table */
    u32 flags;
    lb_buf *ids; /* of the call */
};

lb_hf_work *lb_hf_work_new(const lb_hf_enc *e) {
    lb_hf_work *w = lb_alloc_zero(1, sizeof *w);
    if (!w)
        return NULL;
    w->e = e;
    w->pretok = lb_pretok_work_new(e->pretok);
    if (!w->pretok)
        lb_hf_work_free(&w);
    return w;
}

void lb_hf_work_free(lb_hf_work **out) {
    lb_hf_work *w = *out;
    if (!w)
        return;
    lb_pretok_work_free(&w->pretok);
    lb_bpe_work_deinit(&w->bpe);
    lb_unigram_work_deinit(&w->unigram);
    lb_buf_deinit(&w->scratch);
    lb_buf_deinit(&w->normal);
    lb_buf_deinit(&w->pool);
    lb_free(w->slots);
    lb_free(w);
    *out = NULL;
}

static u64 load64(const char *p, size_t n) {
    u64 v = 0;
    memcpy(&v, p, n);
    return v;
}

/* Not seeded: collisions cost a look at each of few slots (PROBES), nothing more. */
static u64 hash_word(lb_str s) {
    u64 h = s.len * 0x9e3779b97f4a7c15u;
    size_t i = 0;
    for (; i + 8 <= s.len; i += 8)
        h = (h ^ load64(s.ptr + i, 8)) * 0xff51afd7ed558ccdu, h ^= h >> 32;
    h = (h ^ load64(s.ptr + i, s.len - i)) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

enum { PROBES = 8 };

/* The slot of a word, or a free one (at 0) where it may be put; NULL: neither. */
static slot *find_word(lb_hf_work *w, lb_str word, u64 hash) {
    for (u64 i = 0; i < PROBES; i++) {
        slot *s = &w->slots[(hash + i) & (SLOTS - 1)];
        if (!s->at)
            return s;
        if (s->hash == hash && s->len == word.len &&
            memcmp(w->pool.ptr + s->at - 1, word.ptr, word.len) == 0)
            return s;
    }
    return NULL;
}

static void remember(lb_hf_work *w, slot *s, lb_str word, u64 hash, size_t from) {
    size_t bytes = w->ids->len - from;
    if (w->pool.len + word.len + bytes > POOL_BYTES_MAX || w->n_slots > SLOTS / 4 * 3) {
        memset(w->slots, 0, SLOTS * sizeof *w->slots);
        lb_buf_reset(&w->pool);
        w->n_slots = 0;
        s = &w->slots[hash & (SLOTS - 1)];
    }
    size_t at = w->pool.len;
    if (!lb_buf_reserve(&w->pool, word.len + bytes)) {
        w->pool.oom = false;
        return;
    }
    lb_buf_put_str(&w->pool, word);
    lb_buf_put(&w->pool, w->ids->ptr + from, bytes);
    *s = (slot){hash, (u32)at + 1, (u16)word.len, (u16)(bytes / 4)};
    w->n_slots++;
}

/* ---- the model ---- */

static lb_status run_model(lb_hf_work *w, lb_str word, lb_err *err) {
    const lb_hf_enc *e = w->e;
    if (e->tok->kind == LB_HF_UNIGRAM)
        return lb_unigram_encode(&e->unigram, &w->unigram, word, w->ids, err);
    if (e->tok->kind != LB_HF_BPE)
        return lb_words_encode(&e->words, &w->scratch, word, w->ids, err);
    return e->raw_bytes ? lb_bpe_encode_bytes(&e->bpe, &w->bpe, word, w->ids, err)
                        : lb_bpe_encode(&e->bpe, &w->bpe, word, w->ids, err);
}

static lb_status encode_word(lb_hf_work *w, lb_str word, lb_err *err) {
    w->n_bytes += word.len;
    if (!w->slots && w->n_bytes > 4 * LB_KIB)
        w->slots = lb_alloc_zero(SLOTS, sizeof *w->slots);
    if (!w->slots || word.len > WORD_BYTES_MAX || !word.len)
        return run_model(w, word, err);
    u64 hash = hash_word(word);
    slot *s = find_word(w, word, hash);
    if (s && s->at) {
        lb_buf_put(w->ids, w->pool.ptr + s->at - 1 + s->len, (size_t)s->n * 4);
        return LB_OK;
    }
    size_t from = w->ids->len;
    LB_TRY(run_model(w, word, err));
    if (s)
        remember(w, s, word, hash, from);
    return LB_OK;
}

static lb_status put_part(void *ctx, const lb_piece *part, lb_err *err) {
    lb_hf_work *w = ctx;
    lb_str cut = w->e->cut, text = part->text;
    size_t from = 0, at;
    if (!cut.len)
        return encode_word(w, text, err);
    for (size_t i = 0; i < text.len; i = at) { /* before a mark that follows another character */
        at = i;
        while (at < text.len && lb_str_starts(lb_str_sub(text, at, text.len), cut))
            at += cut.len;
        while (at < text.len && !lb_str_starts(lb_str_sub(text, at, text.len), cut)) {
            const char *p = memchr(text.ptr + at + 1, cut.ptr[0], text.len - at - 1);
            at = p ? (size_t)(p - text.ptr) : text.len;
        }
        LB_TRY(encode_word(w, lb_str_sub(text, from, at), err));
        from = at;
    }
    return LB_OK;
}

/* ---- a text ---- */

typedef lb_status (*piece_fn)(lb_hf_work *w, const lb_piece *piece, lb_err *err);

/* Cuts a piece of text at the added tokens of a set. */
static lb_status split_added(lb_hf_work *w, const lb_added_set *set, const lb_piece *piece,
                             piece_fn put, lb_err *err) {
    lb_str text = piece->text;
    size_t done = 0;
    for (size_t pos = 0; pos < text.len;) {
        const struct lb_added_pattern *p =
            begins_at(set, text, pos) ? longest_at(set, text, pos) : NULL;
        const lb_hf_added *a = p ? &w->e->tok->added[p->index] : NULL;
        if (!p || (a->special && (w->flags & LB_HF_PLAIN))) {
            pos += p ? p->text.len : 1;
            continue;
        }
        size_t from = pos, to = pos + p->text.len;
        pos = to;
        if (a->single_word && !stands_alone(text, from, to))
            continue;
        widen(a, text, done, &from, &to);
        if (done < from) {
            lb_piece part = {lb_str_sub(text, done, from), LB_PIECE_TEXT, piece->first && !done};
            LB_TRY(put(w, &part, err));
        }
        if (from < to)
            lb_buf_put_u32(w->ids, a->id);
        /* Blanks that one took may begin the next all the same, and what is behind that is text. */
        done = to;
    }
    lb_piece rest = {lb_str_sub(text, done, text.len), LB_PIECE_TEXT, piece->first && !done};
    return done < text.len ? put(w, &rest, err) : LB_OK;
}

static lb_status put_normal(lb_hf_work *w, const lb_piece *piece, lb_err *err) {
    return lb_pretok_each(w->pretok, piece->text, piece->first, w->e->raw_bytes, put_part, w, err);
}

/* Whether the normalizer removes the first character: what is left is not the text's beginning to
 * the library, which goes by places in the original. */
static lb_status loses_first(lb_hf_work *w, lb_str text, bool *loses, lb_err *err) {
    size_t n = 0;
    *loses = false;
    if (!text.len)
        return LB_OK;
    (void)lb_utf8_next(text, &n);
    LB_TRY(lb_norm_run(w->e->norm, lb_str_sub(text, 0, n), &w->normal, err));
    *loses = w->normal.len == 0;
    return LB_OK;
}

static lb_status put_raw(lb_hf_work *w, const lb_piece *piece, lb_err *err) {
    lb_piece normal = *piece;
    if (!lb_norm_is_empty(w->e->norm)) {
        bool loses = false;
        if (piece->first)
            LB_TRY(loses_first(w, piece->text, &loses, err));
        normal.first = piece->first && !loses;
        LB_TRY(lb_norm_run(w->e->norm, piece->text, &w->normal, err));
        normal.text = lb_buf_str(&w->normal);
    }
    return split_added(w, &w->e->normalized, &normal, put_normal, err);
}

lb_status lb_hf_encode_flags(lb_hf_work *w, lb_str text, u32 flags, lb_buf *ids, lb_err *err) {
    const lb_hf_enc *e = w->e;
    lb_piece whole = {text, LB_PIECE_TEXT, true};
    if (!lb_str_is_utf8(text))
        return lb_fail(err, LB_E_FORMAT, "the text is not valid UTF-8");
    w->flags = flags;
    w->ids = ids;
    if (flags & LB_HF_ADD)
        lb_buf_put(ids, e->before.ptr, e->before.len);
    LB_TRY(split_added(w, &e->raw, &whole, put_raw, err));
    if (flags & LB_HF_ADD)
        lb_buf_put(ids, e->after.ptr, e->after.len);
    return lb_buf_status(ids, err);
}

lb_status lb_hf_encode(const lb_hf_enc *e, lb_str text, bool special, lb_buf *ids, lb_err *err) {
    lb_hf_work *w = lb_hf_work_new(e);
    if (!w)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the tokenizer");
    lb_status st = lb_hf_encode_flags(w, text, special ? LB_HF_ADD : 0, ids, err);
    lb_hf_work_free(&w);
    return st;
}
