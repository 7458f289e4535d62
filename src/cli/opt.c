/* SPDX-License-Identifier: Apache-2.0 */
/* opt.c: command line -> the command's struct, by its tables.
 *
 * `--name value`, `--name=value`, `-n value`, `-nvalue`, flags in a bunch (`-qf`), `--` ends
 * options. A value is taken as it stands, also when it starts with a dash. The last of several
 * wins, except for a repeatable option, which keeps all. Names are never abbreviated: a script that
 * relied on it would break with the next option. */
#include "cli/opt.h"
#include "io/size.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define WORD_MAX 63

typedef struct parser {
    const lb_command *c;
    lb_arena *arena;
    u8 *base;    /* the command's struct */
    bool *given; /* one per row of all groups, in order */
    lb_err *err;
} parser;

lb_str lb_choice(const char *choices, u32 i) {
    while (choices) {
        const char *end = strchr(choices, '|');
        if (i == 0)
            return (lb_str){choices, end ? (size_t)(end - choices) : strlen(choices)};
        i--;
        choices = end ? end + 1 : NULL;
    }
    return LB_STR_NONE;
}

/* What the same is called in other tools: llama.cpp's, mlx-lm's, transformers'. */
static const char *own_word(const char *word) {
    static const char *const words[][2] = {
        {"outtype", "dtype"},
        {"torch-dtype", "dtype"},
        {"precision", "dtype"},
        {"outfile", "output"},
        {"mlx-path", "output"},
        {"save-path", "output"},
        {"out-dir", "output"},
        {"format", "to"},
        {"target", "to"},
        {"split-max-size", "max-shard-size"},
        {"split-max-tensors", "max-shard-tensors"},
        {"nthreads", "threads"},
        {"float16", "f16"},
        {"half", "f16"},
        {"fp16", "f16"},
        {"float32", "f32"},
        {"float", "f32"},
        {"fp32", "f32"},
        {"bfloat16", "bf16"},
        {"safetensors", "hf"},
        {"huggingface", "hf"},
        {"transformers", "hf"},
        {"pt", "hf"},
    };
    for (size_t i = 0; i < LB_LEN(words); i++)
        if (strcmp(word, words[i][0]) == 0)
            return words[i][1];
    return word;
}

static void nearest_option(const lb_command *c, const char *word, char *out, size_t cap) {
    u32 best = UINT32_MAX;
    out[0] = 0;
    word = own_word(word);
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
        for (u32 i = 0; i < c->group[g].n; i++) {
            const lb_opt *o = &c->group[g].opts[i];
            u32 d;
            if (!o->hidden && !o->alias_of && lb_is_near(word, o->name, &d) && d < best) {
                best = d;
                (void)snprintf(out, cap, "; did you mean --%s?", o->name);
            }
        }
}

static lb_status unknown_option(const parser *p, const char *word, bool is_long) {
    char hint[128];
    hint[0] = 0;
    if (is_long)
        nearest_option(p->c, word, hint, sizeof hint);
    return lb_fail(p->err, LB_E_USAGE, "%s: unknown option '%s%s'%s%s%s", p->c->name,
                   is_long ? "--" : "-", word, hint[0] ? hint : ": see 'lbrx ",
                   hint[0] ? "" : p->c->name, hint[0] ? "" : " --help'");
}

/* Finds a row by its long name (short_name 0) or its letter; follows an alias. */
static const lb_opt *find_option(const lb_command *c, lb_str name, char short_name, u32 *group,
                                 u32 *index) {
    u32 base = 0;
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; base += c->group[g].n, g++)
        for (u32 i = 0; i < c->group[g].n; i++) {
            const lb_opt *o = &c->group[g].opts[i];
            if (short_name ? o->short_name != short_name : !lb_str_eq_c(name, o->name))
                continue;
            if (o->alias_of)
                return find_option(c, lb_str_c(o->alias_of), 0, group, index);
            *group = g;
            *index = base + i;
            return o;
        }
    return NULL;
}

static lb_status bad_value(const parser *p, const lb_opt *o, const char *text, const char *want) {
    return lb_fail(p->err, LB_E_USAGE, "%s: --%s: '%s' is not %s", p->c->name, o->name, text, want);
}

static lb_status put_list(const parser *p, const lb_opt *o, lb_opt_list *list, const char *text) {
    const char **item = lb_arena_new(p->arena, const char *, (u64)list->n + 1);
    if (!item)
        return lb_fail(p->err, LB_E_NOMEM, "out of memory");
    if (list->n)
        memcpy(item, list->item, list->n * sizeof *item);
    item[list->n] = text;
    list->item = item;
    list->n++;
    (void)o;
    return LB_OK;
}

/* Capitals do not count. */
static void nearest_choice(const char *choices, const char *text, char *out, size_t cap) {
    char low[WORD_MAX + 1], choice[WORD_MAX + 1];
    u32 best = UINT32_MAX, d;
    size_t n = LB_MIN(strlen(text), (size_t)WORD_MAX);
    for (size_t i = 0; i < n; i++)
        low[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
    low[n] = 0;
    out[0] = 0;
    for (u32 i = 0; lb_choice(choices, i).len; i++) {
        (void)snprintf(choice, sizeof choice, "%.*s", LB_FMT(lb_choice(choices, i)));
        if (lb_is_near(own_word(low), choice, &d) && d < best) {
            best = d;
            (void)snprintf(out, cap, "; did you mean %s?", choice);
        }
    }
}

static lb_status put_enum(const parser *p, const lb_opt *o, u32 *out, const char *text) {
    for (u32 i = 0; lb_choice(o->arg, i).len; i++)
        if (lb_str_eq_c(lb_choice(o->arg, i), text)) {
            *out = i;
            return LB_OK;
        }
    char hint[96];
    nearest_choice(o->arg, text, hint, sizeof hint);
    return lb_fail(p->err, LB_E_USAGE, "%s: --%s: '%s' is not one of %s%s", p->c->name, o->name,
                   text, o->arg, hint);
}

static lb_status put_int(const parser *p, const lb_opt *o, u64 *out, const char *text) {
    u64 v;
    char want[96];
    if (o->max)
        (void)snprintf(want, sizeof want, "a whole number from %llu to %llu",
                       (unsigned long long)o->min, (unsigned long long)o->max);
    else
        (void)snprintf(want, sizeof want, "a whole number of at least %llu",
                       (unsigned long long)o->min);
    if (!lb_str_to_u64(lb_str_c(text), &v) || v < o->min || (o->max && v > o->max))
        return bad_value(p, o, text, want);
    *out = v;
    return LB_OK;
}

static lb_status put_float(const parser *p, const lb_opt *o, double *out, const char *text) {
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v))
        return bad_value(p, o, text, "a number");
    *out = v;
    return LB_OK;
}

/* Sets the field of one row from its text. */
static lb_status put(const parser *p, const lb_opt *o, u32 group, const char *text) {
    void *field = p->base + p->c->group[group].off + o->off;
    switch (o->kind) {
    case LB_OPT_FLAG:
        *(bool *)field = true;
        return LB_OK;
    case LB_OPT_STR:
    case LB_OPT_PATH:
        if (o->kind == LB_OPT_PATH && !*text)
            return bad_value(p, o, text, "a path");
        if (o->repeatable)
            return put_list(p, o, field, text);
        *(const char **)field = text;
        return LB_OK;
    case LB_OPT_SIZE:
        if (!lb_size_parse(lb_str_c(text), field) || *(const u64 *)field < o->min)
            return bad_value(p, o, text, "a size such as 512MB or 4GiB");
        return LB_OK;
    case LB_OPT_INT:
        return put_int(p, o, field, text);
    case LB_OPT_FLOAT:
        return put_float(p, o, field, text);
    case LB_OPT_ENUM:
        return put_enum(p, o, field, text);
    }
    return lb_fail(p->err, LB_E_USAGE, "%s: --%s", p->c->name, o->name);
}

/* The user has given it. */
static void mark(parser *p, const lb_opt *o, u32 group, u32 index) {
    p->given[index] = true;
    if (o->given_off)
        *(bool *)(p->base + p->c->group[group].off + o->given_off) = true;
}

static lb_status parse_long(parser *p, const char *word, char **argv, int argc, int *i) {
    const char *eq = strchr(word, '=');
    lb_str name = {word, eq ? (size_t)(eq - word) : strlen(word)};
    u32 group, index;
    const lb_opt *o = find_option(p->c, name, 0, &group, &index);
    if (!o) {
        char copy[WORD_MAX + 1];
        (void)snprintf(copy, sizeof copy, "%.*s", LB_FMT(name));
        return unknown_option(p, copy, true);
    }
    if (o->kind == LB_OPT_FLAG && eq)
        return lb_fail(p->err, LB_E_USAGE, "%s: --%s takes no value", p->c->name, o->name);
    mark(p, o, group, index);
    if (o->kind == LB_OPT_FLAG)
        return put(p, o, group, NULL);
    if (eq)
        return put(p, o, group, eq + 1);
    if (*i + 1 >= argc)
        return lb_fail(p->err, LB_E_USAGE, "%s: --%s needs a value: %s", p->c->name, o->name,
                       o->arg);
    return put(p, o, group, argv[++*i]);
}

static lb_status parse_short(parser *p, const char *word, char **argv, int argc, int *i) {
    for (const char *s = word; *s; s++) {
        u32 group, index;
        const lb_opt *o = find_option(p->c, LB_STR_NONE, *s, &group, &index);
        if (!o) {
            char copy[2] = {*s, 0};
            return unknown_option(p, s == word ? word : copy, false);
        }
        mark(p, o, group, index);
        if (o->kind == LB_OPT_FLAG) {
            LB_TRY(put(p, o, group, NULL));
            continue;
        }
        if (s[1])
            return put(p, o, group, s + 1);
        if (*i + 1 >= argc)
            return lb_fail(p->err, LB_E_USAGE, "%s: -%c needs a value: %s", p->c->name, *s, o->arg);
        return put(p, o, group, argv[++*i]);
    }
    return LB_OK;
}

static lb_status set_initial(const parser *p) {
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
        for (u32 i = 0; i < p->c->group[g].n; i++) {
            const lb_opt *o = &p->c->group[g].opts[i];
            if (o->initial && !o->alias_of)
                LB_TRY(put(p, o, g, o->initial));
        }
    return LB_OK;
}

static lb_status check_required(const parser *p, u32 n_args) {
    const lb_command *c = p->c;
    u32 index = 0;
    if (n_args < c->n_args_min)
        return lb_fail(p->err, LB_E_USAGE, "%s: needs %s: see 'lbrx %s --help'", c->name, c->args,
                       c->name);
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
        for (u32 i = 0; i < c->group[g].n; i++, index++) {
            const lb_opt *o = &c->group[g].opts[i];
            if (o->required && !p->given[index])
                return lb_fail(p->err, LB_E_USAGE, "%s: --%s %s is required", c->name, o->name,
                               o->arg);
        }
    return LB_OK;
}

/* cp and mv have taught everybody to name the target last. */
static lb_status unexpected(const parser *p, const char *word) {
    u32 group, index;
    const lb_opt *o = find_option(p->c, LB_STR("output"), 0, &group, &index);
    if (o && !p->given[index])
        return lb_fail(p->err, LB_E_USAGE,
                       "%s: unexpected argument '%s': an output is named with -o: -o %s",
                       p->c->name, word, word);
    if (p->c->other)
        return lb_fail(p->err, LB_E_USAGE,
                       "%s: unexpected argument '%s': 'lbrx %s %s' shows a model", p->c->name, word,
                       p->c->other, word);
    return lb_fail(p->err, LB_E_USAGE, "%s: unexpected argument '%s': see 'lbrx %s --help'",
                   p->c->name, word, p->c->name);
}

static bool asks_for_help(char **argv, int argc) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

lb_status lb_opt_parse(const lb_command *c, char **argv, int argc, lb_arena *arena, lb_parsed *out,
                       lb_err *err) {
    u32 n_rows = 0;
    bool only_args = false;
    for (u32 g = 0; g < LB_OPT_GROUPS_MAX; g++)
        n_rows += c->group[g].n;
    memset(out, 0, sizeof *out);
    out->help = asks_for_help(argv, argc);
    out->opts = lb_arena_push(arena, LB_MAX(c->size_bytes, (size_t)1), 16);
    out->args = lb_arena_new(arena, const char *, (u64)argc + 1);
    parser p = {c, arena, out->opts, lb_arena_new(arena, bool, (u64)n_rows + 1), err};
    if (!out->opts || !out->args || !p.given)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    if (out->help)
        return LB_OK;
    LB_TRY(set_initial(&p));
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_args || word[0] != '-' || word[1] == 0) {
            if (out->n_args == c->n_args_max)
                return unexpected(&p, word);
            out->args[out->n_args++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_args = true;
        } else if (word[1] == '-') {
            LB_TRY(parse_long(&p, word + 2, argv, argc, &i));
        } else {
            LB_TRY(parse_short(&p, word + 1, argv, argc, &i));
        }
    }
    return check_required(&p, out->n_args);
}

const lb_opt *lb_opt_find(const lb_command *c, const char *name) {
    u32 group, index;
    return find_option(c, lb_str_c(name), 0, &group, &index);
}

static size_t field_bytes(const lb_opt *o) {
    switch (o->kind) {
    case LB_OPT_FLAG:
        return sizeof(bool);
    case LB_OPT_ENUM:
        return sizeof(u32);
    case LB_OPT_STR:
    case LB_OPT_PATH:
        return o->repeatable ? sizeof(lb_opt_list) : sizeof(const char *);
    default:
        return sizeof(u64);
    }
}

lb_status lb_opt_set(const lb_command *c, const char *name, const char *text, void *opts,
                     lb_arena *arena, lb_err *err) {
    parser p = {c, arena, opts, NULL, err};
    u32 group, index;
    const lb_opt *o = find_option(c, lb_str_c(name), 0, &group, &index);
    if (!o)
        return unknown_option(&p, name, true);
    if (text)
        return put(&p, o, group, text);
    memset(p.base + c->group[group].off + o->off, 0, field_bytes(o));
    return o->initial ? put(&p, o, group, o->initial) : LB_OK;
}
