//! Which factors a sample has: every group is drawn from a stream of its own.

use crate::config::{Place, SynthConfig};
use crate::error::Error;
use crate::expression;
use crate::factors::Factors;
use crate::flaws;
use crate::looks::{self, States};
use crate::person::person;
use crate::scene;
use crate::stream::Stream;
use crate::surroundings;

/// The factors of sample `index`: the same on every machine, whatever was drawn before.
///
/// # Errors
/// When the configuration does not validate or has no such sample.
pub fn factors(config: &SynthConfig, index: usize) -> Result<Factors, Error> {
    let place = config.place(index)?;
    let shown = Place {
        take: flaws::source(config, place),
        ..place
    };
    let mut out = uncorrelated(config, shown);
    flaws::correlate(config, shown, &mut out);
    if shown.take != place.take {
        // A copy has sensor noise of its own.
        out.noise_seed = Stream::new(config.seed, "copy", flaws::number(place)).word();
    }
    (out.identity, out.expression) = flaws::written(config, place);
    out.take = place.take;
    out.copy_of = shown.take;
    Ok(out)
}

/// The factors of a sample before any correlation between them.
pub(crate) fn uncorrelated(config: &SynthConfig, place: Place) -> Factors {
    let (shape, colours, style) = person(config, place.person);
    let number = flaws::number(place);
    let mut stream = Stream::new(config.seed, "expression", number);
    let second = expression::second(
        place.expression,
        config.expressions(),
        config.mixture,
        config.seed,
        number,
    );
    let (actions, peak) = expression::draw(
        place.expression,
        config.expression_strength,
        second,
        &style,
        &mut stream,
    );
    let lateral = expression::lateral(place.expression, config.seed, number);
    let mut stream = Stream::new(config.seed, "scene", number);
    let mut scene = scene::scene(config, &mut stream);
    let (makeup, made_up) = looks::makeup(config, number);
    let (disguise, disguised) = looks::disguise(config, number, &mut scene);
    let (surround, lit) = looks::light(config, number, &mut scene);
    let (occluder, occluded) = surroundings::occluder(config, number);
    Factors {
        identity: place.identity,
        expression: place.expression,
        take: place.take,
        true_identity: place.identity,
        true_expression: place.expression,
        copy_of: place.take,
        peak,
        lateral,
        shape,
        colours,
        style,
        actions,
        scene,
        makeup,
        disguise,
        surround,
        skin: surroundings::skin(config, place.person, shape.sex),
        texture: surroundings::texture(config, number),
        occluder,
        recording: surroundings::recording(config, number),
        states: States {
            makeup: made_up,
            disguise: disguised,
            light: lit,
            occlusion: occluded,
        },
        noise_seed: stream.word(),
    }
}
