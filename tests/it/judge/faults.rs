//! A judge that fails: never a verdict by accident, the deadline holds, and the place is free again.

use std::time::{Duration, Instant};

use aftercheck::{
    evaluators::judge::{
        JudgeError, Remedy,
        config::Provider,
        model::{Answered, Model},
    },
    outbound::Unanswered,
};
use serde_json::{Value, json};

use super::{
    ask, config, one,
    server::{Fault, Server, verdicts},
};

const PROVIDERS: [Provider; 2] = [Provider::Openai, Provider::Anthropic];

/// What a judge with this fault comes to; asked again without it, it answers: its only place is free.
async fn with(provider: Provider, fault: Fault) -> JudgeError {
    let server = Server::kind();
    let model = Model::new(&config(provider, &server.serve().await)).unwrap();
    server.fails(fault.clone());
    let begun = Instant::now();
    let outcome = ask(&model, &one(), 1).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{fault:?} took {:?}", begun.elapsed());
    let error = match outcome {
        Ok(Answered { verdicts: Ok(verdicts), .. }) => panic!("{fault:?} became a verdict: {verdicts:?}"),
        Ok(Answered { verdicts: Err(error), .. }) | Err(error) => error,
    };
    server.fails(None);
    // One that asked to be left alone is left alone.
    if !matches!(error.remedy(), Remedy::Later(Some(_))) {
        assert!(
            ask(&model, &one(), 1).await.is_ok_and(|answered| answered.verdicts.is_ok()),
            "after {fault:?}"
        );
    }
    error
}

#[tokio::test]
async fn row_25_slow_hanging_and_dripping_judges_are_given_up_in_time() {
    for provider in PROVIDERS {
        for fault in [Fault::Hangs, Fault::Drips] {
            let error = with(provider, fault).await;
            assert_eq!(error, JudgeError::Unanswered(Unanswered::Late(Duration::from_secs(2))));
            assert_eq!(error.remedy(), Remedy::Later(None));
        }
    }
}

#[tokio::test]
async fn row_25_a_judge_that_is_slow_and_in_time_is_heard() {
    for provider in PROVIDERS {
        let server = Server::kind();
        let model = Model::new(&config(provider, &server.serve().await)).unwrap();
        server.fails(Fault::Waits(Duration::from_millis(700)));
        assert!(ask(&model, &one(), 1).await.unwrap().verdicts.is_ok());
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn row_26_a_request_that_is_refused_is_made_once() {
    let server = Server::kind();
    let model = Model::new(&config(Provider::Openai, &server.serve().await)).unwrap();
    for body in [json!({"error": {"message": "no"}}), json!({"error": {"param": "temperature"}})] {
        server.fails(Fault::Says(400, vec![], body));
        let before = server.requests().len();
        assert_eq!(ask(&model, &one(), 1).await.unwrap_err(), JudgeError::Refused(400));
        assert_eq!(server.requests().len(), before + 1);
    }
}

#[tokio::test]
async fn row_26_each_refusal_is_told_from_the_others() {
    let openai = |code: &str| json!({"error": {"message": "m", "type": "t", "code": code}});
    let anthropic = |kind: &str, code: &str| json!({"type": "error", "error": {"type": kind, "message": "m", "details": {"error_code": code}}});
    let says = |status, wait: Option<&str>, body: &Value| {
        let headers = wait.map(|wait| ("retry-after", wait.to_owned()));
        Fault::Says(status, headers.into_iter().collect(), body.clone())
    };
    let secs = Duration::from_secs;
    let limited = |wait| JudgeError::Limited(wait);
    let down = |status, wait| JudgeError::Down { status, wait };
    for (fault, expected) in [
        (says(429, Some("7"), &openai("rate_limit_exceeded")), limited(Some(secs(7)))),
        (says(429, Some("86400000"), &openai("slow_down")), limited(Some(secs(3600)))),
        (says(429, Some("Mon, 02 Nov 2020 10:00:00 GMT"), &openai("x")), limited(Some(secs(0)))),
        (says(429, None, &json!({})), limited(None)),
        (says(429, None, &openai("insufficient_quota")), JudgeError::NoMoney),
        (says(500, None, &json!("oops")), down(500, None)),
        (says(503, Some("1.5"), &json!({})), down(503, Some(Duration::from_millis(1500)))),
        (says(408, None, &json!({})), down(408, None)),
        (says(401, None, &openai("invalid_api_key")), JudgeError::Unauthorised(401)),
        (says(403, None, &json!({})), JudgeError::Unauthorised(403)),
        (says(404, None, &openai("model_not_found")), JudgeError::NotFound),
        (says(413, None, &json!({})), JudgeError::TooLong),
        (says(302, None, &json!({})), JudgeError::Refused(302)),
    ] {
        for provider in PROVIDERS {
            // A code of OpenAI's tells nothing of Anthropic's 429.
            if provider == Provider::Anthropic && expected == JudgeError::NoMoney {
                continue;
            }
            assert_eq!(with(provider, fault.clone()).await, expected, "{provider:?} {fault:?}");
        }
    }
    let only = |provider, status, body: Value| with(provider, says(status, None, &body));
    assert_eq!(only(Provider::Openai, 400, openai("context_length_exceeded")).await, JudgeError::TooLong);
    assert_eq!(only(Provider::Openai, 400, openai("x")).await, JudgeError::Refused(400));
    let spent = anthropic("rate_limit_error", "enforced_spend_limit_reached");
    assert_eq!(only(Provider::Anthropic, 429, spent).await, JudgeError::NoMoney);
    assert_eq!(only(Provider::Anthropic, 529, anthropic("overloaded_error", "")).await, down(529, None));
    assert_eq!(only(Provider::Anthropic, 402, anthropic("billing_error", "")).await, JudgeError::NoMoney);
    let never = Fault::Says(503, vec![("x-should-retry", "false".into())], json!({}));
    assert_eq!(with(Provider::Openai, never).await, JudgeError::Refused(503));
}

#[tokio::test]
async fn row_26_what_is_used_up_is_waited_for_and_not_asked_for() {
    let server = Server::kind();
    let model = Model::new(&config(Provider::Openai, &server.serve().await)).unwrap();
    let headers = vec![
        ("x-ratelimit-remaining-requests", "0".to_owned()),
        ("x-ratelimit-reset-requests", "6m0s".into()),
    ];
    server.fails(Fault::Says(500, headers, json!({})));
    ask(&model, &one(), 1).await.unwrap_err();
    server.fails(None);
    let error = model.admit(&one()).await.err().unwrap();
    assert!(matches!(error, JudgeError::Limited(Some(wait)) if wait > Duration::from_secs(300)), "{error:?}");
    assert_eq!(server.requests().len(), 1, "nobody was asked in vain");
}

#[tokio::test]
async fn row_27_garbage_is_never_a_verdict() {
    let good = verdicts(&one(), "supported", 0.9).to_string();
    let written = [
        "The claim is supported. Score: 1.0".to_owned(),
        format!("```json\n{good}\n```"),
        good.replace("0.9}", "0.9,\"note\":\"x\"}"),
        good.replace("0.9", "7"),
        good.replace("0.9", "NaN"),
        good.replace("0.9", "\"0.9\""),
        good[..good.len() / 2].to_owned(),
        String::new(),
        format!("{good}{good}"),
        format!("[{good}]"),
        good.replace("\"id\":1", "\"id\":2"),
        "null".into(),
    ];
    for provider in PROVIDERS {
        for text in &written {
            let error = with(provider, Fault::Writes(text.clone())).await;
            assert_eq!(error.class(), "invalid", "{provider:?} {text}");
        }
        assert_eq!(
            with(provider, Fault::Writes(good.replace("\"score\":0.9", "\"score\":0.1"))).await.class(),
            "contradictory"
        );
        let body = json!({"choices": []}).to_string().into_bytes();
        // What cannot be unpacked, and what could and would then be a good answer after 50 MB of white space.
        let broken = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].repeat(1000);
        for raw in [
            Fault::Raw(body.clone(), "application/json", None),
            Fault::Raw(good.clone().into_bytes(), "text/html", None),
            Fault::Raw(broken, "application/json", Some("gzip")),
            Fault::Raw(Vec::new(), "application/json", None),
        ] {
            assert_eq!(with(provider, raw).await.class(), "invalid");
        }
        assert_eq!(with(provider, Fault::Floods(50 << 20)).await.class(), "too_large");
        assert_eq!(with(provider, Fault::Explodes(50 << 20)).await.class(), "invalid");
    }
    for (provider, reason, class) in [
        (Provider::Openai, "length", "cut_off"),
        (Provider::Openai, "content_filter", "declined"),
        (Provider::Openai, "refusal", "declined"),
        (Provider::Openai, "tool_calls", "invalid"),
        (Provider::Anthropic, "max_tokens", "cut_off"),
        (Provider::Anthropic, "refusal", "declined"),
        (Provider::Anthropic, "pause_turn", "invalid"),
    ] {
        assert_eq!(with(provider, Fault::Ends(reason)).await.class(), class, "{reason}");
    }
}

#[tokio::test]
async fn errors_and_debug_tell_nothing_of_key_or_text() {
    let server = Server::kind();
    let url = server.serve().await;
    server.fails(Fault::Says(
        400,
        vec![],
        json!({"error": {"message": "The bridge is 9 m long. sk-judge-0123456789abcdef"}}),
    ));
    let model = Model::new(&config(Provider::Openai, &url)).unwrap();
    let error = ask(&model, &one(), 1).await.unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(!told.contains("bridge") && !told.contains("sk-judge") && !told.contains("127.0.0.1"), "{told}");
}
