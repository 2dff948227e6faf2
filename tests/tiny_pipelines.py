"""Text-to-image pipelines of every family, random and tiny, with tokenizers of the CLIP and the T5 type, built offline."""

import copy
import inspect
import re
import string
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    GlmConfig,
    GlmModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

N_CLIP = 12
"""Positions of the CLIP encoders, and of T5 where it stands in the place of one."""
MERGES = [
    tuple(pair.split("+"))
    for pair in """r+e re+d</w> b+l bl+u blu+e</w> t+r tr+i a+n an+g l+e</w> c+i ci+r cir+c circ+le</w> a+n+d</w>""".split()
    if pair.count("+") == 1
]


@cache
def clip_tokenizer(pad: str = "<|endoftext|>") -> Any:
    """Like CLIP's: lower-cases, byte-level pieces; "red", "blue" and "circle" are one token, "triangle" is tri ang le."""
    start = ["<|startoftext|>", "<|endoftext|>", "!"]
    alphabet = [letter + end for letter in sorted(ByteLevel.alphabet()) for end in ("", "</w>")]
    vocabulary = dict.fromkeys([*start, *alphabet, *(a + b for a, b in MERGES)])
    ids = {token: id for id, token in enumerate(vocabulary)}
    return CLIPTokenizer(vocab=ids, merges=MERGES, model_max_length=N_CLIP, pad_token=pad)


@cache
def t5_tokenizer(**more: Any) -> Any:
    """Like T5's: case kept, a word's space is part of it, no beginning; "triangle" is one token and "circle" two."""
    words = ["▁red", "▁blue", "▁a", "▁triangle", "▁cir", "cle", "▁and"]
    pieces = [(piece, -6.0) for piece in ["▁", *string.ascii_letters, *string.digits, *".,'-"]]
    scored = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, *((word, -3.0) for word in words)]
    return T5Tokenizer(vocab=scored, extra_ids=0, **more)


def _clip(width: int, layers: int, *, projection: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=N_CLIP,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _t5(width: int) -> Any:
    config = T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=3,
        num_heads=2,
        is_encoder_decoder=False,
    )
    return T5EncoderModel(config).eval()


def _vae(sides: int = 2) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * sides,
        down_block_types=("DownEncoderBlock2D",) * sides,
        up_block_types=("UpDecoderBlock2D",) * sides,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
        shift_factor=0.1,
    )


def _unet(width: int, **more: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=2,
        norm_num_groups=4,
        **more,
    )


def _ddim() -> Any:
    return diffusers.DDIMScheduler(
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
    )


def _sd(text_encoder: Any = None, tokenizer: Any = None) -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=text_encoder or _clip(16, 3),
        tokenizer=tokenizer or clip_tokenizer(),
        unet=_unet(16),
        scheduler=_ddim(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def _sd_t5() -> Any:
    """As this toolkit's own model has it: T5 in the place of CLIP."""
    return _sd(_t5(16), t5_tokenizer(model_max_length=N_CLIP))


def _sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip(16, 2),
        text_encoder_2=_clip(24, 3, projection=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer("!"),
        unet=_unet(
            40,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=24 + 6 * 4,
        ),
        scheduler=_ddim(),
        add_watermarker=False,
    )


def _sd3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=48,
            caption_projection_dim=16,
            pooled_projection_dim=40,
            out_channels=4,
            pos_embed_max_size=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(),
        text_encoder=_clip(16, 2, projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_clip(24, 3, projection=True),
        tokenizer_2=clip_tokenizer("!"),
        text_encoder_3=_t5(48),
        tokenizer_3=t5_tokenizer(),
    )


def _flux() -> Any:
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(),
        text_encoder=_clip(16, 2),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_t5(32),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=False,
        ),
    )


def _pixart(kind: Any) -> Any:
    return kind(
        scheduler=_ddim(),
        vae=_vae(),
        text_encoder=_t5(32),
        tokenizer=t5_tokenizer(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            cross_attention_dim=16,
            caption_channels=32,
            norm_num_groups=4,
            use_additional_conditions=False,
        ),
    )


def _pixart_sigma() -> Any:
    return _pixart(diffusers.PixArtSigmaPipeline)


def _pixart_alpha() -> Any:
    return _pixart(diffusers.PixArtAlphaPipeline)


@cache
def gemma_tokenizer() -> Any:
    """Like Gemma's: a beginning and no end, blanks are letters, bytes where it has no letter."""
    letters = [*string.ascii_letters, *string.digits, *"▁.,'-:()", "\n"]
    pairs = "b+l bl+u blu+e t+r tr+i a+n an+g l+e c+i ci+r cir+c circ+le r+e re+d ▁+red ▁+blue ▁+tri"
    merges = [tuple(pair.split("+")) for pair in pairs.split()]
    start = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    vocabulary = dict.fromkeys(
        [*start, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *(a + b for a, b in merges)]
    )
    return GemmaTokenizer(
        vocab={token: id for id, token in enumerate(vocabulary)},
        merges=merges,
        padding_side="right",
        add_bos_token=True,
    )


def _gemma(width: int) -> Any:
    config = Gemma2Config(
        vocab_size=len(gemma_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=4096,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=1,
    )
    return Gemma2Model(config).eval()


def _sana() -> Any:
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "block_types": ("ResBlock", "EfficientViTBlock"),
            "block_out_channels": (8, 8),
            "qkv_multiscales": ((), (5,)),
            "layers_per_block": (1, 1),
        }.items()
    }
    return diffusers.SanaPipeline(
        tokenizer=gemma_tokenizer(),
        text_encoder=_gemma(32),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.5,
            **sides,
        ),
        transformer=diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=32,
            sample_size=16,
            qk_norm="rms_norm_across_heads",
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )


# ---------------------------------------------------------------------- pipelines with language models for encoders


def _pieces(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """A word as byte-pair encoding leaves it after these merges, each done wherever it can be before the next."""
    pieces = list(word)
    for pair in merges:
        at = 0
        while at < len(pieces) - 1:
            if (pieces[at], pieces[at + 1]) == pair:
                pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
            at += 1
    return pieces


@cache
def qwen_tokenizer() -> Any:
    """Like Qwen's: bytes, a blank is part of a word, no beginning and no end; "circle" is two tokens, the pipelines' words are one."""
    source = inspect.getsource(diffusers.QwenImagePipeline.__init__).replace(r"\n", " ") + SYSTEM_MESSAGE
    words = {"red", "blue", "tri", "cir", "a", "and", *re.findall(r"[A-Za-z]+", source)}
    merges: list[tuple[str, str]] = []
    for word in sorted(word for one in words for word in (one, f"Ġ{one}")):
        first, *others = _pieces(word, merges)
        for other in others:
            merges.append((first, other))
            first += other
    alphabet = [*sorted(ByteLevel.alphabet()), *(a + b for a, b in merges)]
    vocabulary = {token: id for id, token in enumerate(dict.fromkeys(["<|endoftext|>", *alphabet]))}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=list(merges))
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    return tokenizer


def _qwen_image() -> Any:
    text = dict(
        vocab_size=len(qwen_tokenizer()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    vision = dict(
        depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=32, fullatt_block_indexes=[0]
    )
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
            latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval(),
        tokenizer=qwen_tokenizer(),
        transformer=diffusers.QwenImageTransformer2DModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=32, axes_dims_rope=(4, 6, 6),
        ),
    )  # fmt: skip


def _chatting(template: str, **more: Any) -> Any:
    tokenizer = copy.deepcopy(qwen_tokenizer())
    tokenizer.chat_template = template
    for name, value in more.items():
        setattr(tokenizer, name, value)
        tokenizer.init_kwargs[name] = value  # what is saved
    return tokenizer


QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
MISTRAL_CHAT = (
    "{% for m in messages %}{% if m.role == 'system' %}[SYSTEM]{{ m.content[0].text }}[/SYSTEM]"
    "{% else %}[INST]{{ m.content[0].text }}[/INST]{% endif %}{% endfor %}"
)


def _decoder(layers: int, width: int = 16) -> dict[str, Any]:
    return dict(
        vocab_size=len(qwen_tokenizer()),
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def _flux2(kind: Any, text_encoder: Any, tokenizer: Any) -> Any:
    return kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=16,
        ),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=48, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=kind is diffusers.Flux2Pipeline,
        ),
    )  # fmt: skip


def _flux2_dev() -> Any:
    vision = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, head_dim=8
    )
    config = Mistral3Config(
        text_config={"model_type": "mistral", **_decoder(31)}, vision_config={"model_type": "pixtral", **vision}
    )
    tokenizer = _chatting(MISTRAL_CHAT, padding_side="left")
    return _flux2(diffusers.Flux2Pipeline, Mistral3ForConditionalGeneration(config), tokenizer)


def _flux2_klein() -> Any:
    encoder = Qwen3ForCausalLM(Qwen3Config(**_decoder(28)))
    return _flux2(diffusers.Flux2KleinPipeline, encoder, _chatting(QWEN_CHAT))


def _z_image() -> Any:
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(),
        text_encoder=Qwen3Model(Qwen3Config(**_decoder(3))).eval(),
        tokenizer=_chatting(QWEN_CHAT),
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
            axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
        ),
    )  # fmt: skip


def _chroma() -> Any:
    return diffusers.ChromaPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(),
        text_encoder=_t5(32),
        tokenizer=t5_tokenizer(),
        transformer=diffusers.ChromaTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=16, approximator_hidden_dim=16,
            approximator_layers=1,
        ),
    )  # fmt: skip


def _aura_flow() -> Any:
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=2, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, out_channels=4, pos_embed_max_size=4096,
    )  # fmt: skip
    with torch.no_grad():  # so that pictures depend on texts by more than rounding
        for block in [*transformer.joint_transformer_blocks, *transformer.single_transformer_blocks]:
            block.attn.to_out[0].weight.mul_(8)
            block.norm1.linear.weight.mul_(8)
        for block in transformer.joint_transformer_blocks:
            block.attn.to_add_out.weight.mul_(8)
            block.norm1_context.linear.weight.mul_(8)
    return diffusers.AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=_t5(32),
        vae=_vae(),
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )


def _lumina2() -> Any:
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=4, patch_size=2, in_channels=4, hidden_size=24, num_layers=2, num_refiner_layers=1,
            num_attention_heads=3, num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 2, 2), axes_lens=(300, 64, 64),
            cap_feat_dim=32,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(sides=4),
        text_encoder=_gemma(32),
        tokenizer=gemma_tokenizer(),
    )  # fmt: skip


@cache
def glm_tokenizer() -> Any:
    """Like GLM's: bytes, and two special tokens before every text."""
    fast = copy.deepcopy(qwen_tokenizer())._tokenizer
    fast.add_special_tokens(["[gMASK]", "<sop>"])
    special = [(token, fast.token_to_id(token)) for token in ("[gMASK]", "<sop>")]
    fast.post_processor = TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<|endoftext|>", eos_token="<|endoftext|>", padding_side="left"
    )


def _cogview4() -> Any:
    config = GlmConfig(**{**_decoder(3, 32), "vocab_size": len(glm_tokenizer())}, partial_rotary_factor=0.5)
    return diffusers.CogView4Pipeline(
        tokenizer=glm_tokenizer(),
        text_encoder=GlmModel(config).eval(),
        vae=_vae(sides=4),
        transformer=diffusers.CogView4Transformer2DModel(
            patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            text_embed_dim=32, time_embed_dim=8, condition_dim=4, sample_size=4, rope_axes_dim=(16, 16),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


@cache
def bert_tokenizer() -> Any:
    """Like BERT's: lower-cases, a beginning and an end; "triangle" is tri and ##angle."""
    letters = [*string.ascii_lowercase, *string.digits, *".,'-"]
    words = ["red", "blue", "circle", "and", "tri", "##angle", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])
    return BertTokenizer(vocab={token: id for id, token in enumerate(vocabulary)}, model_max_length=77)


def _hunyuan_dit() -> Any:
    bert = BertConfig(
        vocab_size=len(bert_tokenizer()), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=80,
    )  # fmt: skip
    return diffusers.HunyuanDiTPipeline(
        vae=_vae(sides=4),
        text_encoder=BertModel(bert).eval(),
        tokenizer=bert_tokenizer(),
        text_encoder_2=_t5(24),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.HunyuanDiT2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, patch_size=2, sample_size=4, hidden_size=16,
            num_layers=2, cross_attention_dim=16, cross_attention_dim_t5=24, pooled_projection_dim=4, text_len=77,
            text_len_t5=256, use_style_cond_and_image_meta_size=False,
        ),
        scheduler=_ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd": _sd,
    "sd_t5": _sd_t5,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux": _flux,
    "pixart_sigma": _pixart_sigma,
    "sana": _sana,
    "pixart_alpha": _pixart_alpha,
    "qwen_image": _qwen_image,
    "flux2": _flux2_dev,
    "flux2_klein": _flux2_klein,
    "z_image": _z_image,
    "chroma": _chroma,
    "lumina2": _lumina2,
    "aura_flow": _aura_flow,
    "cogview4": _cogview4,
    "hunyuan_dit": _hunyuan_dit,
}


@cache
def tiny_pipeline(family: str) -> Any:
    """The pipeline of that family, the same weights in every call and process."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`FluxPosEmbed` is deprecated", FutureWarning)  # of Chroma's own denoiser
        torch.manual_seed(7)
        pipeline = BUILDERS[family]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def tiny_image(family: str) -> Any:
    """An ImageModel around the tiny pipeline, with 3 steps and a guidance of 2 as its own."""
    from interp.models.identity import ModelIdentity
    from interp.models.image.families import family_of
    from interp.models.image.model import ImageModel

    pipeline = tiny_pipeline(family)
    kind = family_of(family, type(pipeline).__name__)
    return ImageModel(
        kind(pipeline), ModelIdentity(f"tiny-{family}", "tests", "0", "float32"), {"steps": 3, "guidance": 2.0}
    )


def save(family: str, folder: Path) -> Path:
    """Writes the pipeline as a folder that can be loaded."""
    tiny_pipeline(family).save_pretrained(folder)
    return folder
