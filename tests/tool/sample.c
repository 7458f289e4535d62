/* SPDX-License-Identifier: Apache-2.0 */
/* sample.c: the sampler of src/model, for tests/peers/peer_sampling.py.
 *
 * Commands on standard input, one a line:
 *   new N_VOCAB KEY=VALUE...      options of lb_sample_opts; order=NAMES; bias=TOKEN:VALUE,...;
 *                                 breakers=T,T;T (tokens)
 *   accept TOKEN...
 *   sample                        then N_VOCAB floats
 * sample answers "token N SELECTED" and N lines "ID LOGIT P" (floats as bits). */
#include "base/cpu.h"
#include "model/sample.h"
#include <stdio.h>
#include <stdlib.h>

#define LINE_MAX_BYTES (1 << 20)

static lb_err err;
static lb_kernels kernels;
static lb_logit_bias bias[1024];
static u32 breaker_tokens[4096];
static lb_dry_breaker breakers[1024];

static void read_bias(lb_sample_opts *o, char *text) {
    o->bias = bias;
    for (char *p = strtok(text, ","); p; p = strtok(NULL, ",")) {
        char *value = strchr(p, ':');
        bias[o->n_bias++] = (lb_logit_bias){(u32)atoi(p), strtof(value + 1, NULL)};
    }
}

static void read_breakers(lb_sample_opts *o, char *text) {
    u32 n = 0;
    o->breakers = breakers;
    while (*text) {
        lb_dry_breaker *b = &breakers[o->n_breakers++];
        *b = (lb_dry_breaker){breaker_tokens + n, 0};
        for (;;) {
            breaker_tokens[n++] = (u32)strtoul(text, &text, 10);
            b->n++;
            if (*text != ',')
                break;
            text++;
        }
        if (*text == ';')
            text++;
    }
}

static bool read_option(lb_sample_opts *o, char *word) {
    char *value = strchr(word, '=');
    if (!value)
        return false;
    *value++ = 0;
    const struct {
        const char *name;
        float *to;
    } floats[] = {{"top_p", &o->top_p},
                  {"min_p", &o->min_p},
                  {"typical", &o->typical},
                  {"top_n_sigma", &o->top_n_sigma},
                  {"xtc_probability", &o->xtc_probability},
                  {"xtc_threshold", &o->xtc_threshold},
                  {"temperature", &o->temperature},
                  {"dynatemp_range", &o->dynatemp_range},
                  {"dynatemp_exponent", &o->dynatemp_exponent},
                  {"penalty_repeat", &o->penalty_repeat},
                  {"penalty_freq", &o->penalty_freq},
                  {"penalty_present", &o->penalty_present},
                  {"dry_multiplier", &o->dry_multiplier},
                  {"dry_base", &o->dry_base},
                  {"mirostat_tau", &o->mirostat_tau},
                  {"mirostat_eta", &o->mirostat_eta}};
    const struct {
        const char *name;
        u32 *to;
    } words[] = {{"min_keep", &o->min_keep},
                 {"penalty_last_n", &o->penalty_last_n},
                 {"dry_allowed_length", &o->dry_allowed_length},
                 {"dry_last_n", &o->dry_last_n},
                 {"mirostat", &o->mirostat}};
    for (u32 i = 0; i < LB_LEN(floats); i++)
        if (!strcmp(word, floats[i].name))
            return *floats[i].to = strtof(value, NULL), true;
    for (u32 i = 0; i < LB_LEN(words); i++)
        if (!strcmp(word, words[i].name))
            return *words[i].to = (u32)atoi(value), true;
    if (!strcmp(word, "seed"))
        o->seed = strtoull(value, NULL, 10);
    else if (!strcmp(word, "top_k"))
        o->top_k = atoi(value);
    else if (!strcmp(word, "order"))
        return lb_sample_order_parse(lb_str_c(value), o, &err) == LB_OK;
    else if (!strcmp(word, "bias"))
        read_bias(o, value);
    else if (!strcmp(word, "breakers"))
        read_breakers(o, value);
    else
        return false;
    return true;
}

static void print_sampled(const lb_sampler *s, u32 token) {
    lb_sampled r = lb_sampler_last(s);
    printf("%u %u %u\n", token, r.n, r.selected);
    for (u32 i = 0; i < r.n; i++)
        printf("%u %u %u\n", r.tokens[i], lb_f32_bits(r.logits[i]), lb_f32_bits(r.probs[i]));
    fflush(stdout);
}

int main(void) {
    char *line = malloc(LINE_MAX_BYTES);
    lb_sampler *s = NULL;
    float *logits = NULL;
    u32 n_vocab = 0;
    lb_kernels_init(&kernels, lb_cpu_isa());
    while (line && fgets(line, LINE_MAX_BYTES, stdin)) {
        char *save = NULL, *word = strtok_r(line, " \n", &save);
        if (!word)
            continue;
        if (!strcmp(word, "new")) {
            lb_sample_opts o = lb_sample_defaults();
            n_vocab = (u32)atoi(strtok_r(NULL, " \n", &save));
            while ((word = strtok_r(NULL, " \n", &save)))
                if (!read_option(&o, word)) {
                    fprintf(stderr, "sample: %s? %s\n", word, err.msg);
                    return 2;
                }
            lb_sampler_free(&s);
            free(logits);
            logits = malloc(n_vocab * sizeof *logits);
            if (!logits || lb_sampler_new(&s, n_vocab, &o, &kernels, &err) != LB_OK) {
                fprintf(stderr, "sample: %s\n", err.msg);
                return 2;
            }
        } else if (!strcmp(word, "accept")) {
            while ((word = strtok_r(NULL, " \n", &save)))
                lb_sampler_accept(s, (u32)atoi(word));
        } else if (!strcmp(word, "sample")) {
            u32 token;
            if (fread(logits, sizeof *logits, n_vocab, stdin) != n_vocab)
                return 2;
            if (lb_sampler_sample(s, logits, NULL, &token, &err) == LB_OK)
                print_sampled(s, token);
            else
                printf("error %s\n", err.msg);
        }
    }
    lb_sampler_free(&s);
    free(logits);
    free(line);
    return 0;
}
