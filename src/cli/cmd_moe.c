/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_moe.c: `lbrx moe`: a file of mergekit-moe, converted and quantized like any model. */
#include "cli/convert.h"
#include "cli/typing.h"
#include "ops/moe.h"

typedef struct moe_options {
    lb_common common;
    lb_writing writing;
    lb_typing typing;
    u64 seed;
    bool all_same;
} moe_options;

static const lb_opt moe_rows[] = {
    {.name = "seed",
     .kind = LB_OPT_INT,
     .arg = "N",
     .initial = "0",
     .help = "of random routers, which are then mergekit's of --random-seed N, and of noise",
     .off = offsetof(moe_options, seed)},
    {.name = "i-understand-this-is-not-useful-without-training",
     .kind = LB_OPT_FLAG,
     .help = "take experts that are all the same model",
     .off = offsetof(moe_options, all_same)},
};

static lb_status open_moe(const void *user, const char *model, lb_source **out, lb_err *err) {
    const moe_options *o = user;
    lb_moe_opts m = {
        .seed = o->seed, .all_same = o->all_same, .limits = lb_cli_moe_limits(&o->common)};
    return lb_moe_open(out, model, &m, err);
}

static lb_status run_moe(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                         lb_err *err) {
    moe_options o = *(const moe_options *)opts;
    (void)n_args;
    lb_quantize_opts q;
    LB_TRY(lb_typing_fill(&o.typing, &q, err));
    lb_str seed = lb_arena_printf(&cli->arena, " --seed %llu", (unsigned long long)o.seed);
    lb_convert_opts c = {.verb = "moe",
                         .verb_options = seed.ptr,
                         .quantize = lb_typing_given(&o.typing) ? &q : NULL};
    lb_cli_opened from = {open_moe, &o, args[0]};
    return lb_cli_convert_opened(cli, &o.writing, &o.common, &from, &c, err);
}

const lb_command lb_cmd_moe = {
    .name = "moe",
    .summary = "Makes a mixture of experts of several models by a mergekit-moe file.",
    .args = "CONFIG.yml -o OUT",
    .examples = {{"a folder, as mergekit-moe writes it", "lbrx moe moe.yml -o mixture/"},
                 {"straight to a quantized GGUF", "lbrx moe moe.yml -o mixture.gguf --type q4_k_m"},
                 {"what goes into each tensor", "lbrx moe moe.yml -o mixture/ --dry-run"}},
    .details = "The file is mergekit-moe's: base_model, experts (source_model, positive_prompts, "
               "negative_prompts, noise_scale, residual_scale), shared_experts, gate_mode (hidden, "
               "hidden_avg, hidden_last, cheap_embed, random, uniform_random), experts_per_token, "
               "dtype, architecture (mixtral, deepseek, qwen, "
               "qwen3). Models may be of any format, quantized ones too. The file is a MODEL for "
               "`convert` and `quantize` as well.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", moe_rows, 0), LB_GROUP_TYPING(offsetof(moe_options, typing)),
              LB_GROUP_WRITE(offsetof(moe_options, writing)),
              LB_GROUP_COMMON(offsetof(moe_options, common))},
    .size_bytes = sizeof(moe_options),
    .run = run_moe,
};
