//! The properties, for tests and fuzzing alike: an error tells what is wrong.

use std::str::FromStr;

use hickory_proto::rr::{Name, RecordType};
use postseal::dns::{Bogus, Security};
use postseal::resolver::budget::Budget;
use postseal::resolver::rrset::RrSet;
use postseal::resolver::validate::{Cut, Denials, Proof};

use super::dice::Dice;
use super::signer::NOW;
use super::zone::{Denial, QUESTION_TYPES, Truth, Zone, child, random_name};

/// A zone with its parent and a child, all signed with one key: only the signer's name tells them apart.
pub struct World {
    pub zone: Zone,
    others: Vec<Zone>,
}

/// A random world.
pub fn world(dice: &mut Dice) -> World {
    let parent = Name::from_str("example.").expect("a name");
    let apex = child(&parent, "a");
    let zone = Zone::random(dice, &apex, 1);
    let mut others = vec![Zone::random(dice, &parent, 1)];
    for cut in zone.cuts().into_iter().take(1) {
        others.push(Zone::random(dice, &cut, 1));
    }
    World { zone, others }
}

/// A name worth asking for: one that exists, one near it, or any.
fn question(dice: &mut Dice, zone: &Zone) -> (Name, u16) {
    let names: Vec<&Name> = zone.names().collect();
    let known = *dice.pick(&names);
    let name = match dice.below(6) {
        0 => known.clone(),
        1 => random_name(dice, known),
        2 if *known != zone.apex => known.base_name(),
        3 => child(known, "*"),
        _ => random_name(dice, &zone.apex),
    };
    (name, *dice.pick(&QUESTION_TYPES))
}

/// Shows a random selection of real records and asks random questions: no proof may be false. Gives the number of
/// questions and of proofs.
pub fn check_soundness(dice: &mut Dice, world: &World) -> Result<(usize, usize), String> {
    let zone = &world.zone;
    let mut pool: Vec<RrSet> = zone.denials.clone();
    pool.extend(world.others.iter().flat_map(|other| other.denials.clone()));
    for _ in 0..3 {
        let (qname, qtype) = question(dice, zone);
        let truth = zone.truth(&qname, qtype);
        match zone.denial {
            Denial::Nsec => pool.extend(zone.compact_denial(&qname, &truth)),
            Denial::Nsec3 { .. } => pool.extend(zone.narrow_denial(&qname, &truth).unwrap_or_default()),
        }
    }
    let mut shown: Vec<RrSet> = Vec::new();
    for set in pool {
        if !dice.one_in(3) && shown.len() < 16 {
            shown.push(set);
        }
    }
    if !shown.is_empty() && dice.one_in(4) {
        spoil(dice, &mut shown);
    }
    let (denials, _) = Denials::collect(&zone.apex, &shown, &zone.signer.keys(), NOW, &Budget::default());
    let mut proofs = 0;
    const QUESTIONS: usize = 24;
    for _ in 0..QUESTIONS {
        let (qname, qtype) = question(dice, zone);
        proofs += check_one(zone, &denials, &qname, qtype)
            .map_err(|wrong| format!("{qname} type {qtype}: {wrong}; zone {:?}", zone.names().collect::<Vec<_>>()))?;
    }
    Ok((QUESTIONS, proofs))
}

/// Changes one record in a way a forger could.
fn spoil(dice: &mut Dice, shown: &mut [RrSet]) {
    let at = dice.below(shown.len());
    let set = &mut shown[at];
    match dice.below(4) {
        0 => set.name = child(&set.name.base_name(), "0"),
        1 => set.sigs[0].labels = set.sigs[0].labels.saturating_sub(1),
        2 => {
            let octet = dice.below(set.rdatas[0].len());
            set.rdatas[0][octet] ^= 0x40;
        }
        _ => set.sigs.clear(),
    }
}

/// Everything that can be proven of one question; gives the number of proofs.
fn check_one(zone: &Zone, denials: &Denials, qname: &Name, qtype: u16) -> Result<usize, String> {
    let truth = zone.truth(qname, qtype);
    let opt_out = matches!(zone.denial, Denial::Nsec3 { opt_out: true, .. });
    let mut proofs = 0;
    let mut judge = |what: &str, proof: &Result<Proof, Bogus>, secure: bool, insecure: bool| match proof {
        Ok(proof) => {
            proofs += 1;
            let right = if proof.security == Security::Secure { secure } else { opt_out && insecure };
            if right { Ok(()) } else { Err(format!("{what}: {proof:?}, but {truth:?}")) }
        }
        Err(_) => Ok(()),
    };
    let absent = matches!(truth, Truth::NxDomain(_));
    let nothing = absent || matches!(truth, Truth::NoData | Truth::WildcardNoData(_));
    let unsigned = matches!(truth, Truth::Delegated { secure: false, .. });
    let hidden = !zone.has_record(qname) && !matches!(truth, Truth::Delegated { secure: true, .. } | Truth::Redirected);

    let name_error = denials.name_error(qname, &Budget::default());
    judge("name error", &name_error, absent, nothing || unsigned)?;

    let no_data = denials.no_data(qname, RecordType::from(qtype), &Budget::default());
    let says_absent = no_data.as_ref().is_ok_and(|proof| proof.nxdomain);
    judge("no data", &no_data, if says_absent { absent } else { nothing && !absent }, hidden)?;

    for labels in zone.apex.iter().count()..qname.iter().count() {
        let encloser = qname.trim_to(labels);
        if zone.names().any(|name| *name == child(&encloser, "*")) {
            let answer = denials.wildcard_answer(qname, &encloser, &Budget::default());
            let applies = match &truth {
                Truth::Wildcard(closest) | Truth::WildcardNoData(closest) => *closest == encloser,
                _ => false,
            };
            judge("wildcard", &answer, applies, hidden)?;
        }
    }

    let cuts = zone.cuts();
    let is_cut = cuts.contains(qname);
    let has_ds = is_cut && zone.truth(qname, 43) == Truth::Answer;
    let apex = *qname == zone.apex;
    let below = cuts.iter().any(|cut| cut.zone_of(qname) && cut != qname);
    let no_ds = denials.no_ds(qname, &Budget::default());
    judge("no DS", &no_ds, is_cut && !has_ds, hidden && !has_ds)?;
    match denials.cut(qname, &Budget::default()) {
        Ok((Cut::Insecure, proof)) => judge("insecure cut", &Ok(proof), is_cut && !has_ds, hidden && !has_ds)?,
        Ok((Cut::NotACut, proof)) => judge("no cut", &Ok(proof), !is_cut && !below && !apex, false)?,
        Err(_) => {}
    }
    Ok(proofs)
}

/// Shows what an honest server would and asks: it must be proven. Gives the number of proofs.
pub fn check_completeness(dice: &mut Dice, world: &World) -> Result<usize, String> {
    let zone = &world.zone;
    let mut proofs = 0;
    for _ in 0..20 {
        let (qname, qtype) = question(dice, zone);
        let truth = zone.truth(&qname, qtype);
        let explain = |what: &str| format!("{qname} type {qtype}: {truth:?}: {what}; zone {:?}", zone.denial);
        if let Truth::Delegated { cut, secure: false } = &truth {
            let Some(sets) = zone.honest_referral(cut) else { continue };
            collect(zone, &sets).no_ds(cut, &Budget::default()).map_err(|_| explain("no DS not proven"))?;
            proofs += 1;
            continue;
        }
        let Some(sets) = zone.honest_denial(&qname, &truth) else { continue };
        let compact = zone.compact_denial(&qname, &truth).filter(|_| matches!(zone.denial, Denial::Nsec));
        let narrow = zone.narrow_denial(&qname, &truth);
        for sets in [Some(sets), compact.map(|set| vec![set]), narrow].into_iter().flatten() {
            proofs += check_honest(zone, &sets, &qname, qtype, &truth).map_err(|what| explain(&what))?;
        }
    }
    Ok(proofs)
}

fn collect(zone: &Zone, sets: &[RrSet]) -> Denials {
    Denials::collect(&zone.apex, sets, &zone.signer.keys(), NOW, &Budget::default()).0
}

fn check_honest(zone: &Zone, sets: &[RrSet], qname: &Name, qtype: u16, truth: &Truth) -> Result<usize, String> {
    let opt_out = matches!(zone.denial, Denial::Nsec3 { opt_out: true, .. });
    let denials = collect(zone, sets);
    let budget = Budget::default();
    let proof = match truth {
        Truth::NoData | Truth::WildcardNoData(_) => denials.no_data(qname, RecordType::from(qtype), &budget),
        Truth::NxDomain(_) => denials.name_error(qname, &budget),
        Truth::Wildcard(encloser) => denials.wildcard_answer(qname, encloser, &budget),
        Truth::Answer | Truth::Redirected | Truth::Parents | Truth::Delegated { .. } => return Ok(0),
    };
    let proof = proof.map_err(|bogus| format!("not proven: {bogus}, by {} sets", sets.len()))?;
    let direct = matches!(truth, Truth::NoData) && zone.has_record(qname);
    let secure = !opt_out || direct;
    if (proof.security == Security::Secure) != secure {
        return Err(format!("{proof:?}"));
    }
    if qtype == 43 && matches!(truth, Truth::NoData | Truth::NxDomain(_)) {
        denials.cut(qname, &budget).map_err(|bogus| format!("no cut status: {bogus}"))?;
    }
    Ok(1)
}
