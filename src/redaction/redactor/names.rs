//! Names of people and places, taken out of calls that were redacted here.

use super::{
    Redactor,
    work::{Calls, Work},
};
use crate::{
    domain::Call,
    redaction::{
        Treatment,
        names::{self, Answers, Names, NamesError, Questions},
    },
};

impl Redactor {
    /// Who is asked for names, where somebody is.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Takes names out of a call that [`Redactor::message`] has redacted: the same name has the same placeholder in its
    /// input, answer, contexts and metadata. Nothing happens where nobody is asked.
    ///
    /// # Errors
    /// [`NamesError`]; the call is as it was then, and [`Names::when_down`] says what becomes of it.
    pub async fn take_out_names(&self, call: &mut Call) -> Result<(), NamesError> {
        let questions = self.name_questions(call);
        let answers = self.ask_names(&questions).await?;
        self.replace_names(call, questions, answers)
    }

    /// What is to be asked about a call, but for kinds that stay in it. With [`Redactor::ask_names`] and
    /// [`Redactor::replace_names`] it is [`Redactor::take_out_names`], for who does the work before and after the asking off
    /// the runtime.
    pub fn name_questions(&self, call: &Call) -> Questions {
        let Some(names) = &self.names else { return Questions::default() };
        let treatment = |kind: &&str| {
            self.config.treatment(kind, Some(call.environment.as_str()), Some(call.tenant_id.as_str()))
        };
        let kinds: Vec<&str> = names.kinds().filter(|kind| treatment(kind) != Treatment::Keep).collect();
        let known: Vec<&str> = self.kinds().collect();
        names.questions(call, &kinds, &known)
    }

    /// Asks.
    ///
    /// # Errors
    /// [`NamesError`].
    pub async fn ask_names(&self, questions: &Questions) -> Result<Answers, NamesError> {
        match &self.names {
            Some(names) => names.ask(questions).await,
            None => Ok(Answers::default()),
        }
    }

    /// Takes out of a call what was found in it.
    ///
    /// # Errors
    /// [`NamesError::Unreadable`] where it is too much; the call is as it was then.
    pub fn replace_names(
        &self,
        call: &mut Call,
        questions: Questions,
        answers: Answers,
    ) -> Result<(), NamesError> {
        let Some(names) = &self.names else { return Ok(()) };
        let found = names.found(questions, answers)?;
        if found.is_empty() {
            return Ok(());
        }
        let (environment, tenant_id) = (call.environment.clone(), call.tenant_id.clone());
        let mut work = Work::new(self, Calls::Of { environment: &environment, tenant_id: Some(&tenant_id) });
        names::texts_of(call, &mut |text| work.count(text));
        let known: Vec<&str> = self.kinds().collect();
        found.replace(call, &known, &mut |kind, name| work.instead(kind, name));
        Ok(())
    }
}
