/* SPDX-License-Identifier: Apache-2.0 */
/* thought.c: see thought.h. */
#include "cli/thought.h"

#define TOKENS_MAX 6

/* How models write it. Their marks may be special tokens, which are no text else. */
static const struct {
    const char *open, *close, *tokens[TOKENS_MAX];
} marks[] = {
    {"<think>", "</think>", {"<think>", "</think>"}}, /* Qwen, DeepSeek, GLM, SmolLM... */
    {"<seed:think>", "</seed:think>", {"<seed:think>", "</seed:think>"}},
    {"[THINK]", "[/THINK]", {"[THINK]", "[/THINK]"}},                    /* Mistral */
    {"<|channel>thought\n", "<channel|>", {"<|channel>", "<channel|>"}}, /* Gemma 4 */
    {"<|channel|>analysis<|message|>",                                   /* gpt-oss */
     "<|end|>",
     {"<|start|>", "<|channel|>", "<|message|>", "<|end|>"}},
    {"<|START_THINKING|>", /* Command */
     "<|END_THINKING|>",
     {"<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>"}},
    {"<|inner_prefix|>",
     "<|inner_suffix|>",
     {"<|inner_prefix|>", "<|inner_suffix|>"}}, /* Apertus */
};

/* What may stand before an answer, and is no part of it. */
static const char *const leads[] = {"<|START_RESPONSE|>", "<|channel|>final<|message|>",
                                    "<|start|>assistant<|channel|>final<|message|>"};

enum {
    BEGIN, /* blanks, and perhaps an opening mark */
    THINK,
    BLANK, /* blanks behind the closing mark */
    SAY
};

static lb_str trimmed_end(lb_str s) {
    while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1]) && s.ptr[s.len - 1])
        s.len--;
    return s;
}

static size_t skip_blanks(lb_str s, size_t at) {
    while (at < s.len && s.ptr[at] && strchr(" \t\r\n", s.ptr[at]))
        at++;
    return at;
}

lb_status lb_thought_tokens(const lb_encoder *e, lb_buf *ids, lb_err *err) {
    for (u32 i = 0; i < LB_LEN(marks); i++) {
        u32 id[TOKENS_MAX], n = 0;
        bool all = true;
        for (; n < TOKENS_MAX && marks[i].tokens[n]; n++) {
            id[n] = lb_encoder_find(e, lb_str_c(marks[i].tokens[n]));
            all &= id[n] != LB_NO_ID;
        }
        for (u32 k = 0; k < n && all; k++)
            if (lb_encoder_token(e, id[k], NULL) == LB_TOKEN_CONTROL)
                lb_buf_put_u32(ids, id[k]);
    }
    return lb_buf_status(ids, err);
}

void lb_thought_begin(lb_thought *t, lb_str prompt) {
    prompt = trimmed_end(prompt);
    lb_buf_reset(&t->text);
    lb_buf_reset(&t->said);
    lb_buf_reset(&t->thought);
    t->taken = 0;
    t->any = false;
    t->state = BEGIN;
    for (u32 i = 0; i < LB_LEN(marks) && !t->any; i++)
        if (lb_str_ends(prompt, lb_str_c(marks[i].open))) {
            t->mark = i;
            t->any = true;
            t->state = THINK;
        }
}

static lb_status give(lb_thought *t, size_t to, lb_thought_show *show, void *user, lb_err *err) {
    const bool thinking = t->state == THINK;
    const lb_str piece = lb_str_sub(lb_buf_str(&t->text), t->taken, to);
    if (!piece.len)
        return LB_OK;
    t->taken = to;
    lb_buf_put_str(thinking ? &t->thought : &t->said, piece);
    LB_TRY(lb_buf_status(thinking ? &t->thought : &t->said, err));
    return show ? show(user, thinking, piece, err) : LB_OK;
}

/* Whether an opening mark stands here. *wait: one may be coming. */
static bool opens(lb_thought *t, size_t at, bool last, bool *wait) {
    const lb_str rest = lb_str_sub(lb_buf_str(&t->text), at, t->text.len);
    *wait = false;
    for (u32 i = 0; i < LB_LEN(marks); i++) {
        const lb_str mark = lb_str_c(marks[i].open);
        if (lb_str_starts(rest, mark)) {
            t->mark = i;
            t->any = true;
            return true;
        }
        *wait |= !last && rest.len < mark.len && lb_str_starts(mark, rest);
    }
    return false;
}

/* The end of what stands before an answer proper at `at`. *wait: it may be coming. */
static size_t skip_lead(const lb_thought *t, size_t at, bool last, bool *wait) {
    const lb_str rest = lb_str_sub(lb_buf_str(&t->text), at, t->text.len);
    *wait = false;
    for (u32 i = 0; i < LB_LEN(leads); i++) {
        const lb_str lead = lb_str_c(leads[i]);
        if (lb_str_starts(rest, lead))
            return at + lead.len;
        *wait |= !last && rest.len < lead.len && lb_str_starts(lead, rest);
    }
    return at;
}

/* The closing mark, or where its beginning may stand at the end. False: not there yet. */
static bool closes(const lb_thought *t, bool last, size_t *at) {
    const lb_str text = lb_buf_str(&t->text), mark = lb_str_c(marks[t->mark].close);
    size_t pos;
    if (lb_str_find(lb_str_sub(text, t->taken, text.len), mark, &pos)) {
        *at = t->taken + pos;
        return true;
    }
    *at = text.len;
    for (size_t k = LB_MIN(mark.len - 1, text.len - t->taken); k && !last; k--)
        if (lb_str_ends(text, lb_str_sub(mark, 0, k))) {
            *at = text.len - k;
            break;
        }
    return false;
}

lb_status lb_thought_put(lb_thought *t, lb_str piece, bool last, lb_thought_show *show, void *user,
                         lb_err *err) {
    size_t at;
    bool wait;
    lb_buf_put_str(&t->text, piece);
    LB_TRY(lb_buf_status(&t->text, err));
    const lb_str text = lb_buf_str(&t->text);
    if (t->state == BEGIN) {
        at = skip_blanks(text, 0);
        if (opens(t, at, last, &wait)) {
            t->state = THINK;
            t->taken = at + strlen(marks[t->mark].open);
        } else if (!wait && (at < text.len || last)) {
            const size_t behind = skip_lead(t, at, last, &wait);
            t->taken = behind > at ? behind : 0;
            t->state = wait ? BEGIN : SAY;
        }
    }
    if (t->state == THINK) {
        if (!t->thought.len)
            t->taken = skip_blanks(text, t->taken);
        bool closed = closes(t, last, &at);
        LB_TRY(give(t, at, show, user, err));
        if (!closed)
            return LB_OK;
        t->taken = at + strlen(marks[t->mark].close);
        t->state = BLANK;
    }
    if (t->state == BLANK) {
        t->taken = skip_blanks(text, t->taken);
        if (t->taken < text.len) {
            t->taken = skip_lead(t, t->taken, last, &wait);
            t->state = wait ? BLANK : SAY;
        }
    }
    return t->state == SAY ? give(t, text.len, show, user, err) : LB_OK;
}

void lb_thought_deinit(lb_thought *t) {
    lb_buf_deinit(&t->text);
    lb_buf_deinit(&t->said);
    lb_buf_deinit(&t->thought);
}
