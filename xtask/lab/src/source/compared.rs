//! What comes of asking the kernel's functions and the model the same.

use std::fmt::Debug;

use anyhow::{Result, ensure};

use super::kernel_code::Answers;

/// What came of a comparison.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Operations up to the first difference.
    pub(super) operations: u64,
    /// Mappings among them that were refused.
    pub(super) refused: u64,
    /// The first difference.
    pub(super) difference: Option<String>,
}

impl Compared {
    /// Takes in a round. `at` says which operation it is, for people, and `is_refused` whether the answer to it is that it is refused.
    pub(super) fn take<A: PartialEq + Debug>(
        &mut self,
        of_kernel: &[A],
        of_model: &[A],
        ended: Option<&str>,
        is_refused: impl Fn(usize, &A) -> bool,
        at: impl Fn(usize) -> String,
    ) -> Result<()> {
        let differ = of_kernel.iter().zip(of_model).position(|(kernel, model)| kernel != model);
        let same = differ.unwrap_or(of_kernel.len());
        ensure!(same <= of_model.len(), "{same} answers to {} operations", of_model.len());
        self.operations += same as u64;
        self.refused +=
            of_model[..same].iter().enumerate().filter(|(nth, answer)| is_refused(*nth, answer)).count() as u64;
        if let Some(nth) = differ {
            self.difference = Some(format!("{}\n  kernel {:?}\n  model  {:?}", at(nth), of_kernel[nth], of_model[nth]));
        } else if let Some(why) = ended {
            self.difference = Some(format!("{}: {why}", at(same.min(of_model.len().saturating_sub(1)))));
        } else {
            ensure!(same == of_model.len(), "{same} answers to {} operations", of_model.len());
        }
        Ok(())
    }
}

/// Answers of so many numbers each, as a program writes them.
pub(super) fn decoded<const N: usize, A>(answers: &Answers, answer: impl Fn([u64; N]) -> A) -> Result<Vec<A>> {
    let numbers = super::kernel_code::numbers(&answers.bytes)?;
    ensure!(numbers.len().is_multiple_of(N), "an answer is cut off");
    Ok(numbers.as_chunks().0.iter().map(|numbers| answer(*numbers)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(kernel: &[u64], model: &[u64], ended: Option<&str>) -> Result<Compared> {
        let mut compared = Compared::default();
        compared.take(kernel, model, ended, |_, answer| *answer == 9, |nth| format!("operation {nth}"))?;
        Ok(compared)
    }

    #[test]
    fn the_first_difference_is_named_and_what_is_before_it_counts() {
        let compared = taken(&[1, 9, 3], &[1, 9, 4], None).unwrap();
        assert_eq!((compared.operations, compared.refused), (2, 1));
        assert_eq!(compared.difference.unwrap(), "operation 2\n  kernel 3\n  model  4");
        assert_eq!(taken(&[1, 9], &[1, 9], None).unwrap().difference, None);
    }

    #[test]
    fn a_program_that_ends_early_is_a_difference_or_an_error_and_never_agreement() {
        let ended = taken(&[1], &[1, 2], Some("it does not return")).unwrap();
        assert_eq!(ended.difference.unwrap(), "operation 1: it does not return");
        assert!(taken(&[1], &[1, 2], None).is_err());
        assert!(taken(&[1, 2, 3], &[1, 2], None).is_err());
    }

    #[test]
    fn what_a_program_writes_is_read_whole() {
        let answers = |bytes| Answers { bytes, ended: None };
        let bytes = [1_u64, 2, 3, 4].map(u64::to_ne_bytes).concat();
        assert_eq!(decoded(&answers(bytes.clone()), |two: [u64; 2]| two).unwrap(), [[1, 2], [3, 4]]);
        assert!(decoded(&answers(bytes[..24].to_vec()), |two: [u64; 2]| two).is_err());
    }
}
